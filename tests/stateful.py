"""What state machines of hypothesis share: whatever is called, the rows go only where their tables lead.

Each call does its work or raises a DomainError. A refusal leaves everything as it was; a change of a status is a step
of its table and has a row in the audit log. A database error is a defect.
"""

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.db import models, transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from projects.errors import DomainError
from projects.models import AuditLog

Rows = dict[tuple[type[models.Model], UUID], dict[str, Any]]


def reachable(table: Any, old: str) -> set[str]:
    """The state and all that can follow it. Single steps are the database's to check."""
    reached, edge = {old}, {old}
    while edge:
        edge = {new for state in edge for new in table[state]} - reached
        reached |= edge
    return reached


class Watched(RuleBasedStateMachine):
    """Calls, each looked at: `tables` are the models that are watched, with their transitions."""

    tables: ClassVar[dict[type[models.Model], Any]]

    def enter(self) -> None:
        """Begin an example, in a transaction that `teardown` rolls back."""
        self._undo = transaction.atomic()
        self._undo.__enter__()
        # How many rows of the audit log each row had when its status last changed.
        self._told: dict[UUID, int] = {}

    def teardown(self) -> None:
        if hasattr(self, "_undo"):
            transaction.set_rollback(True)
            self._undo.__exit__(None, None, None)

    def is_recorded(self, model: type[models.Model], old: str, new: str) -> bool:
        """Whether such a change has to be in the audit log."""
        return True

    def attempt(self, call: Callable[[], object]) -> bool:
        """Do it, and fail unless it was done as it must be. Return whether it was done."""
        before, told = self._rows(), AuditLog.objects.count()
        refusal = self._refusal(call)
        after = self._rows()
        if refusal is not None:
            assert str(refusal)
            assert after == before, f"refused ({refusal}), and yet changed"
            assert AuditLog.objects.count() == told, f"refused ({refusal}), and yet recorded"
            return False
        for (model, key), row in after.items():
            old, new = before.get((model, key), row)["status"], row["status"]
            if old != new:
                assert new in reachable(self.tables[model], old), f"{model.__name__}: {old} → {new}"
                rows = AuditLog.objects.filter(object_id=str(key)).count()
                if self.is_recorded(model, old, new):
                    assert rows > self._told.get(key, 0), f"{model.__name__}: {old} → {new} is not in the audit log"
                self._told[key] = rows
        return True

    def _refusal(self, call: Callable[[], object]) -> DomainError | None:
        try:
            call()
        except DomainError as refusal:
            return refusal
        return None

    def _rows(self) -> Rows:
        return {(model, row["id"]): row for model in self.tables for row in model._default_manager.values()}


def explore(machine: type[Watched], *, examples: int, steps: int) -> None:
    """Run a machine with a few examples. They follow from the code, whose constants are tried, not from chance."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            # Making a failing example smaller takes minutes against a database; one is short enough to be read.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
