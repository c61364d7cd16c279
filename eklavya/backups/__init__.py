"""Backups: the database and every repository as they were at one moment, in a directory, and back again.

`making` writes one, `restoring` reads it into an installation, `checking` looks at what came out. docs/operations.md
is for people.
"""
