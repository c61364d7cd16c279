"""What becomes of a change in the merge queue, as it is told to the supervisor that brought it, on whatever machine."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from agents.merging.batch import FailedCheck, Landed, MainBusy, Outcome, Refused, Seen, Unmergeable
from agents.workspace.errors import MergeConflict
from agents.workspace.values import Violation


class Collision(Unmergeable):
    """Two changes that are each right make together what may not be: names that some systems cannot keep apart."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__("the merge is refused")
        self.violations = violations


class Conflict(Unmergeable):
    """Others changed the same places, up to this commit of main."""

    def __init__(self, found: MergeConflict, main: str) -> None:
        super().__init__(str(found))
        self.found = found
        self.main = main


class Gone(Exception):
    """The change's owner left: its run was cancelled, or lost."""


@dataclass(frozen=True)
class Observed:
    """What was seen of a commit, as fields of Verification."""

    facts: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether it may be main."""
        return bool(self.facts["passed"])

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "Observed":
        """Return what `facts` of another process were."""
        given = {"duration_s": Decimal(facts["duration_s"])} if "duration_s" in facts else {}
        return cls(facts | given)


def facts_of(seen: Seen) -> dict[str, Any]:
    """Return what is stored of a sight."""
    assert isinstance(seen, Observed)
    return seen.facts


def to_json(outcome: Outcome) -> dict[str, Any]:
    """Return what is stored of an outcome."""
    match outcome:
        case Landed(commit, seen, others):
            return {"is": "landed", "commit": commit, "seen": facts_of(seen), "others": others}
        case Refused(Conflict() as error):
            return {
                "is": "conflict",
                "main": error.main,
                "paths": list(error.found.paths),
                "detail": error.found.detail,
            }
        case Refused(Collision() as error):
            return {"is": "collision", "violations": [list(violation) for violation in error.violations]}
        case Refused(FailedCheck() as error):
            return {"is": "failed", "seen": facts_of(error.seen)}
        case Refused(MainBusy()):
            return {"is": "busy"}
        case Refused(error):
            return {"is": "gone", "said": str(error)}


def from_json(told: dict[str, Any]) -> Outcome:
    """Return the outcome that was stored."""
    match told["is"]:
        case "landed":
            return Landed(told["commit"], Observed.from_json(told["seen"]), told["others"])
        case "conflict":
            return Refused(Conflict(MergeConflict(tuple(told["paths"]), told["detail"]), told["main"]))
        case "collision":
            return Refused(Collision([Violation(*fields) for fields in told["violations"]]))
        case "failed":
            return Refused(FailedCheck(Observed.from_json(told["seen"])))
        case "busy":
            return Refused(MainBusy())
        case _:
            return Refused(Gone(told["said"]))
