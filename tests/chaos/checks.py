"""What must be true when everything has calmed down: asked of the rows, the repositories and the model's witness.

`python -m tests.chaos.checks`, in the environment of the house. Prints {"facts": …, "problems": […]}.
"""

import json
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.chaos.settings")
django.setup()

from django.core.management import CommandError, call_command  # noqa: E402
from django.db.models import Count, Sum  # noqa: E402
from django.utils import timezone  # noqa: E402

from agents.models import Run  # noqa: E402
from agents.sandboxes import repository  # noqa: E402
from agents.states import ACTIVE_RUN, RunStatus  # noqa: E402
from agents.workspace.errors import WorkspaceError  # noqa: E402
from agents.workspace.git import Git  # noqa: E402
from billing import actions as billing  # noqa: E402
from billing.actions.reservations import RESERVATION_LIFETIME  # noqa: E402
from billing.models import Budget, LedgerEntry, Reservation  # noqa: E402
from projects.models import AuditLog, Project, Task  # noqa: E402
from projects.states import TaskStatus  # noqa: E402
from tests.chaos.money import Answer, compare  # noqa: E402

_TOKENS = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens")


def chains() -> Iterator[str]:
    """The audit log is whole."""
    out = StringIO()
    try:
        call_command("verify_audit", stdout=out, stderr=out)
    except CommandError as error:
        yield f"audit: {error}\n{out.getvalue()}"


def tasks() -> Iterator[str]:
    """No task was completed twice, by the audit log and by the runs."""
    completed = AuditLog.objects.filter(action="task.completed").values("object_id")
    for row in completed.annotate(times=Count("id")).filter(times__gt=1):
        yield f"task {row['object_id']} was completed {row['times']} times"
    done = Run.objects.filter(status=RunStatus.SUCCEEDED, reason="completed").values("task")
    for row in done.annotate(times=Count("id")).filter(times__gt=1):
        yield f"{row['times']} runs completed task {row['task']}"
    for run in Run.objects.filter(status__in=ACTIVE_RUN):
        yield f"run {run.pk} is still {run.status}"


def commits() -> Iterator[str]:
    """Main of each project only ever grew, and holds what runs and tasks say was merged."""
    for project in Project.objects.all():
        store = repository(project.pk)
        if not store.path.exists():
            continue
        merged = Run.objects.filter(project=project, status=RunStatus.SUCCEEDED).exclude(merge_commit="")
        named = set(merged.values_list("merge_commit", flat=True))
        for task in Task.objects.filter(project=project, status=TaskStatus.COMPLETED):
            if commit := (task.result or {}).get("commit"):
                named.add(commit)
        for commit in sorted(named):
            try:
                is_there = store.is_merged(commit)
            except WorkspaceError:
                is_there = False
            if not is_there:
                yield f"project {project.pk}: {commit} was merged, and is not in main"
        yield from _history(store.path)


def _history(path: Path) -> Iterator[str]:
    git = Git(path)
    log = path / "logs" / "refs" / "heads" / "main"
    moves = [line.split()[:2] for line in log.read_text().splitlines()] if log.exists() else []
    for (_, reached), (old, new) in pairwise(moves):
        if reached != old or git.run("merge-base", "--is-ancestor", old, new, accept=(0, 1)).returncode:
            yield f"{path.name}: main went from {reached} to {new}, which does not build on it"
    if git.run("fsck", "--connectivity-only", "--no-dangling", accept=(0, 1, 2, 3, 4, 8)).returncode:
        yield f"{path.name}: objects are missing"


def ledger(facts: dict[str, Any]) -> Iterator[str]:
    """The ledger says what the model's witness says.

    Each answer that left as a whole is in the ledger with its tokens. But a gateway that dies leaves its reservation
    open, which expires at its full amount; and whoever leaves before the end is billed for what the gateway had read of
    the answer by then, a guess that must follow from the request or the answer (`Answer.may_cost`).
    """
    open_before = Reservation.objects.filter(status=Reservation.Status.OPEN).count()
    billing.expire_reservations(timezone.now() + RESERVATION_LIFETIME + timedelta(minutes=1))
    expired = Reservation.objects.filter(status=Reservation.Status.EXPIRED).count()
    answers = [Answer.read(json.loads(line)) for line in Path(os.environ["CHAOS_SERVED"]).read_text().splitlines()]
    unpriced = set(Reservation.objects.filter(status=Reservation.Status.EXPIRED).values_list("pk", flat=True))
    settled = LedgerEntry.objects.filter(kind="settle").exclude(request_id__in=unpriced)
    found = compare(answers, settled.values_list(*_TOKENS))
    whole = sum(answer.is_whole for answer in answers)
    facts["ledger"] = {
        "served": whole,
        "equal": found.equal,
        "left": found.left,
        "again": found.again,
        "cut": len(answers) - whole,
        "expired": expired,
        "open_at_end": open_before,
        "missing": len(found.missing),
        "surplus": len(found.surplus),
    }
    if len(found.missing) > expired:
        yield f"ledger: {len(found.missing)} answers were served and not billed: {found.missing[:3]}, {facts['ledger']}"
    if found.surplus:
        yield f"ledger: {len(found.surplus)} lines were never served: {found.surplus[:3]}, {facts['ledger']}"
    for budget in Budget.objects.filter(scope=Budget.Scope.PROJECT):
        of = LedgerEntry.objects.filter(project_id=budget.scope_id, kind__in=["settle", "adjust"])
        if (of.aggregate(sum=Sum("amount"))["sum"] or 0) != budget.settled or budget.reserved:
            yield f"ledger: the budget of project {budget.scope_id} says {budget.settled} and {budget.reserved} held"


def main() -> None:
    facts: dict[str, Any] = {"runs": dict(Run.objects.values_list("status").annotate(Count("id")).order_by())}
    facts["tasks"] = dict(Task.objects.values_list("status").annotate(Count("id")).order_by())
    facts["audit_rows"] = AuditLog.objects.count()
    problems = [*tasks(), *commits(), *ledger(facts), *chains()]
    sys.stdout.write(json.dumps({"facts": facts, "problems": problems}) + "\n")


if __name__ == "__main__":
    main()
