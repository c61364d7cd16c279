"""Webhooks out: where they may go, what they say, and how they are sent. `actions.webhooks` writes the rows."""
