"""Writing down what happens to accounts: the recorder of `accounts`, on the account's chain of the audit log."""

from accounts import records
from accounts.records import Record
from projects import audit
from projects.actors import Actor


def connect() -> None:
    """Register everything. Idempotent."""
    records.register(_write_down)


def _write_down(record: Record) -> None:
    by = Actor.person(record.by) if record.by else Actor.system("accounts")
    with audit.journal(by=by, now=record.now) as journal:
        journal.add(record.action, obj=record.obj, details=record.details)
