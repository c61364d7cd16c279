"""What an API key may be used for. A key never does more than its owner's role allows."""

from django.db import models


class Scope(models.TextChoices):
    """The scopes, as they are stored and written in the API's schema."""

    PROJECTS_READ = "projects:read", "See projects, tasks, runs and approvals, and live events"
    PROJECTS_WRITE = "projects:write", "Start projects, write to squads, pause, resume and cancel"
    APPROVALS_DECIDE = "approvals:decide", "Take decisions"
    MONEY_READ = "money:read", "See what was spent"
    MONEY_WRITE = "money:write", "Raise limits, together with approvals:decide"
    REPOSITORY_READ = "repository:read", "Clone and download repositories"
    AUDIT_READ = "audit:read", "Read the audit log"
    WORKERS_READ = "workers:read", "See the machines that execute runs"
    WORKERS_WRITE = "workers:write", "Take machines out of use and back"
    WORKERS_JOIN = "workers:join", "Join as a machine that executes runs: give one key to one machine"
    WORKERS_SENSITIVE = "workers:sensitive", "Together with workers:join: get runs of sensitive projects too"
    WEBHOOKS_READ = "webhooks:read", "See webhooks and what was sent"
    WEBHOOKS_WRITE = "webhooks:write", "Have events sent to addresses: whoever holds this hears of everything"
