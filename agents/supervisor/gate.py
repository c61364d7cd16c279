"""The Git gate: whether all that a run's change would bring into main may come in."""

from dataclasses import replace
from typing import Any

from django.conf import settings

from agents.keys import keys_in_force
from agents.sandboxes import repository
from agents.workspace.errors import CloneError
from agents.workspace.paths import PathPolicy
from agents.workspace.values import Collected, Violation

# More than these the next run would not read either.
MOST_TOLD = 20
SECRET = "secret"


def violations_of(project_id: Any, collected: Collected, *, policy: PathPolicy) -> list[Violation]:
    """Return every reason why a collected change may not be merged. Keys that it brings are not shown."""
    repo = repository(project_id)
    policy = replace(policy, max_file_bytes=settings.EKLAVYA_MAX_FILE_MB * 1_000_000)
    found = repo.check_paths(collected.base, collected.commit, policy=policy)
    try:
        secrets = repo.find_secrets(collected.base, collected.commit, known=keys_in_force())
    except CloneError as error:
        return [*found, of_clone(error)]
    return found + [Violation(one.path, SECRET, one.sentence) for one in secrets]


def of_clone(error: CloneError) -> Violation:
    """Return why a clone could not be taken over, in the same terms."""
    return Violation("", error.code, str(error))


def reason_of(violations: list[Violation]) -> str:
    """Return the run's reason: what weighs most."""
    return "secrets_refused" if any(one.rule == SECRET for one in violations) else "paths_refused"


def told(reason: str, violations: list[Violation]) -> dict[str, Any]:
    """Return what the next run gets to know of it."""
    some = violations[:MOST_TOLD]
    detail = "\n".join(one.sentence for one in some)
    rules = [{"rule": one.rule, "path": one.path} for one in some]
    return {"failure": {"reason": reason, "detail": detail, "violations": rules}}
