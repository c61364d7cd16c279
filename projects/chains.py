"""Checking the audit log: every hash chain, whole or broken, without stopping anybody who writes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Exists, OuterRef

from projects import audit
from projects.anchors import Anchors
from projects.models import AuditChain, AuditLog, Project

_CHUNK = 2_000


@dataclass(frozen=True)
class ChainReport:
    """What was found of one chain: how many rows were read, and where it breaks first, if it does."""

    chain: str
    rows: int
    found: audit.Break | None

    @property
    def is_whole(self) -> bool:
        """Whether nothing was changed, removed or added."""
        return self.found is None


def check_chains(project_id: UUID | None = None, *, anchors: Anchors | None = None) -> Iterator[ChainReport]:
    """Check all chains, or a project's, one after the other, in constant memory; also against `anchors` where given.

    Each is read in a snapshot of its own, so that rows written meanwhile are no false alarm. Must not be called in
    a transaction. A project without any record, and rows without a head, are breaks too.
    """
    anchors = anchors or {}
    chains = [str(project_id)] if project_id else sorted({*_all_chains(), *anchors})
    for chain in chains:
        yield _check(chain, anchors.get(chain))


def rows_of_chains(
    project_id: UUID | None = None,
) -> Iterator[tuple[str, AuditChain | None, Iterator[AuditLog]]]:
    """Yield each chain, or a project's, with its head and its rows in order. Use the rows before asking for more.

    Each chain is read in a snapshot of its own. Must not be called in a transaction.
    """
    for chain in [str(project_id)] if project_id else _all_chains():
        with _snapshot():
            head = AuditChain.objects.filter(key=chain).first()
            yield chain, head, AuditLog.objects.filter(chain=chain).order_by("seq").iterator(chunk_size=_CHUNK)


@contextmanager
def _snapshot() -> Iterator[None]:
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def _all_chains() -> list[str]:
    """Return the keys of all chains that are there, or should be: each project's begins when it is created."""
    headless = AuditLog.objects.exclude(Exists(AuditChain.objects.filter(key=OuterRef("chain"))))
    keys = {
        *AuditChain.objects.values_list("key", flat=True),
        *headless.values_list("chain", flat=True).distinct(),
        *map(str, Project.objects.values_list("pk", flat=True)),
    }
    return sorted(keys)


def _check(chain: str, anchor: tuple[int, str] | None) -> ChainReport:
    with _snapshot():
        rows = AuditLog.objects.filter(chain=chain).order_by("seq")
        head = AuditChain.objects.filter(key=chain).first()
        if head is None:
            problem = "its head is missing" if rows.exists() else "nothing was recorded"
            return ChainReport(chain, 0, audit.Break(chain, 1, problem))
        counted = _Counted(rows.iterator(chunk_size=_CHUNK))
        found = audit.verify(counted, head) or _against(anchor, head)
        return ChainReport(chain, counted.count, found)


def _against(anchor: tuple[int, str] | None, head: AuditChain) -> audit.Break | None:
    """Compare a chain that is whole in itself with what was kept elsewhere."""
    if anchor is None:
        return None
    seq, kept = anchor
    if seq > head.last_seq:
        problem = f"the anchor knows {seq} rows: the newest were cut off"
        return audit.Break(head.key, head.last_seq + 1, problem)
    if AuditLog.objects.filter(chain=head.key, seq=seq, hash=kept).exists():
        return None
    return audit.Break(head.key, seq, "is not the row of the anchor: the chain was rewritten up to here")


class _Counted:
    """Passes rows on and counts them."""

    def __init__(self, rows: Iterable[AuditLog]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[AuditLog]:
        for row in self._rows:
            self.count += 1
            yield row
