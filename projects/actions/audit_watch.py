"""Looking at the audit log when nobody asks: people are told of a chain that does not hold."""

import logging
from datetime import datetime

from django.db import IntegrityError

from projects import audit
from projects.actions.chat import notify
from projects.actors import Actor
from projects.chains import check_chains
from projects.ids import new_id
from projects.models import AuditLog, Notification
from projects.models.audit import ACCOUNT_CHAIN

logger = logging.getLogger(__name__)

WATCHMAN = Actor.system("watchman")


def watch_chains(*, now: datetime) -> list[audit.Break]:
    """Check every chain, tell people of each break once, and return all breaks. Must not be called in a transaction.

    What is whole leaves no row: the log would grow by being looked at.
    """
    breaks = [report.found for report in check_chains() if report.found]
    for found in breaks:
        logger.critical("audit chain %s is broken at row %s: %s", found.chain, found.seq, found.problem)
        if not _told(found):
            _tell(found, now=now)
    return breaks


def _told(found: audit.Break) -> bool:
    rows = AuditLog.objects.filter(action="audit.broken", details__chain=found.chain, details__seq=found.seq)
    return rows.exists() or Notification.objects.filter(title=_title(found), message__startswith=_place(found)).exists()


def _tell(found: audit.Break, *, now: datetime) -> None:
    message = (
        f"{_place(found)}: {found.problem}. Keep the database as it is and look at docs/audit.md before anything else."
    )
    link = {
        "label": "Open the audit log",
        "url": "/audit/" if _is_account(found) else f"/projects/{found.chain}/audit/",
    }
    try:
        with audit.journal(by=WATCHMAN, now=now) as journal:
            details = {"chain": found.chain, "seq": found.seq, "problem": found.problem}
            journal.add("audit.broken", details=details)
            notify(
                None,
                level=Notification.Level.ERROR,
                title=_title(found),
                message=message,
                links=[link],
                by=WATCHMAN,
                now=now,
            )
    except IntegrityError:  # the account's own chain cannot be written to: people hear of it all the same
        Notification.objects.create(
            id=new_id(),
            level=Notification.Level.ERROR,
            title=_title(found),
            message=message,
            actions=[link],
            created_at=now,
        )


def _is_account(found: audit.Break) -> bool:
    return found.chain == ACCOUNT_CHAIN


def _title(found: audit.Break) -> str:
    return f"The audit log of {'the account' if _is_account(found) else 'a project'} was tampered with"


def _place(found: audit.Break) -> str:
    return f"Chain {found.chain}, row {found.seq}"
