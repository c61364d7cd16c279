"""The processes of one machine: embedded PostgreSQL and Valkey, and the supervision of all others."""
