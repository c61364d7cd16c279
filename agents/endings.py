"""Every way in which a run ends badly, and what plain code does about it. docs/recovery.md is this table."""

from dataclasses import dataclass
from enum import Enum


class Remedy(Enum):
    """What follows."""

    ONCE = "tried once more for each fingerprint of the failure, never after such a try; else a person is asked"
    ATTEMPT = "tried again, told what went wrong, once for each fingerprint; costs an attempt; else a person is asked"
    FREE = "tried again; costs no attempt"
    CONFLICT = "a task of its own brings both together, and this one waits for it; costs no attempt"
    HELP = "the mentor is asked, then a person"
    MONEY = "the project is paused and an admin is asked"
    NONE = "nothing: people wanted it so"


@dataclass(frozen=True)
class Way:
    """One reason of a run. `limit` is how often; with `has_switch` admins may have a person asked instead."""

    seen: str
    remedy: Remedy
    limit: str = ""
    has_switch: bool = True


_CAPS = "caps of task and house"
_ATTEMPTS = "the task's attempts"
_CHECK = "the verification of its merge"
WAYS: dict[str, Way] = {
    # it gets nowhere
    "stalled": Way("it says nothing for EKLAVYA_STALL_SECONDS", Remedy.ONCE, _CAPS),
    "looping": Way("it makes equal calls in circles", Remedy.ONCE, _CAPS),
    "no_diff": Way("none of its files changes", Remedy.ONCE, _CAPS),
    "supervisor_silent": Way("its supervisor renews the lease and says nothing", Remedy.ONCE, _CAPS),
    # it used up what it had
    "wall_clock": Way("its minutes are over", Remedy.ATTEMPT, _ATTEMPTS),
    "turn_limit": Way("its requests to the model are used up", Remedy.ATTEMPT, _ATTEMPTS),
    "run_budget": Way("what one run may cost is used up", Remedy.ATTEMPT, _ATTEMPTS),
    "over_budget": Way("a budget above the run's is used up", Remedy.MONEY, has_switch=False),
    # its program, the model or the machine
    "cli_failed": Way("its program crashed, was killed for memory, or broke off", Remedy.ATTEMPT, _ATTEMPTS),
    "no_outcome": Way("it ended its turn three times without an ending verb", Remedy.ATTEMPT, _ATTEMPTS),
    "model_error": Way("the model refused a request", Remedy.ATTEMPT, _ATTEMPTS),
    "model_outage": Way(
        "the model's API answers none of its requests", Remedy.FREE, "14 in a row, then one try that costs an attempt"
    ),
    "platform_error": Way(
        "the platform failed: no sandbox, no clone, a full disk, Git or a database away too long, "
        "no answer to its agent, who gave up or could not hand in",
        Remedy.FREE,
        "14 in a row, then one try that costs an attempt",
    ),
    "lease_expired": Way("its machine or supervisor died", Remedy.FREE, "5, then one try that costs an attempt"),
    "worker_gone": Way("its worker went away before it began", Remedy.FREE, "5, then one try that costs an attempt"),
    "files_too_large": Way("its files are more than go to a remote worker and back", Remedy.ATTEMPT, _ATTEMPTS),
    "worker_stopping": Way("its worker was stopped", Remedy.FREE, has_switch=False),
    "worker_draining": Way("its worker is drained", Remedy.FREE, has_switch=False),
    # its work is refused
    "paths_refused": Way("its change touches what its role may not, or what nobody may", Remedy.ATTEMPT, _ATTEMPTS),
    "secrets_refused": Way("its change brings a key", Remedy.ATTEMPT, _ATTEMPTS),
    "clone_refused": Way("its clone cannot be taken over", Remedy.ATTEMPT, _ATTEMPTS),
    "no_change": Way("a demo was handed in without a change", Remedy.ATTEMPT, _ATTEMPTS),
    "conflict": Way("others changed the same places", Remedy.CONFLICT, "5 of a task or of its conflict, then attempts"),
    "unresolved": Way(
        "a conflict was handed in with Git's markers, or without one of the two changes", Remedy.ATTEMPT, _ATTEMPTS
    ),
    "main_busy": Way(
        "main kept moving while it was verified", Remedy.FREE, "5 in a row, then one try that costs an attempt"
    ),
    "manifest_missing": Way(_CHECK, Remedy.ATTEMPT, _ATTEMPTS),
    "manifest_invalid": Way(_CHECK, Remedy.ATTEMPT, _ATTEMPTS),
    "no_test_command": Way(_CHECK, Remedy.ATTEMPT, _ATTEMPTS),
    "tests_failed": Way(_CHECK, Remedy.ATTEMPT, _ATTEMPTS),
    "no_tests_ran": Way(_CHECK, Remedy.ATTEMPT, _ATTEMPTS),
    "tests_timed_out": Way(_CHECK, Remedy.ATTEMPT, _ATTEMPTS),
    "start_missing": Way(_CHECK, Remedy.ATTEMPT, _ATTEMPTS),
    "start_failed": Way(_CHECK, Remedy.ATTEMPT, _ATTEMPTS),
    "health_failed": Way(_CHECK, Remedy.ATTEMPT, _ATTEMPTS),
    # it says so itself, or people do
    "agent_gave_up": Way("it says that the task cannot be done", Remedy.ATTEMPT, _ATTEMPTS),
    "blocked": Way("it cannot go on without help", Remedy.HELP, "3 answers of the mentor", has_switch=False),
    "paused": Way("its project was paused", Remedy.FREE, has_switch=False),
    "reassigned": Way("its task was given to another role", Remedy.FREE, has_switch=False),
    "stopped": Way("an admin stopped it", Remedy.FREE, has_switch=False),
    "cancelled": Way("its task was cancelled", Remedy.NONE, has_switch=False),
}
SWITCHES = frozenset(reason for reason, way in WAYS.items() if way.has_switch)


def table() -> str:
    """Return the table as Markdown."""
    lines = ["| reason | seen when | then | at most | switch |", "|---|---|---|---|---|"]
    for reason, way in WAYS.items():
        switch = "yes" if way.has_switch else "–"
        lines.append(f"| `{reason}` | {way.seen} | {way.remedy.value} | {way.limit or '–'} | {switch} |")
    return "\n".join(lines) + "\n"
