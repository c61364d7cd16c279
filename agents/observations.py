"""What the platform itself sees of a commit: the link from `agents.verification`, which knows no rows, to rows."""

from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings

from agents.sandboxes import network_name, repository, runtime
from agents.verification import Place, VerificationResult, verify
from projects.models import Project


def observe(project: Project, commit: str, *, name: str, require_app: bool) -> VerificationResult:
    """Check a commit out clean, test it and start it. `name` names its sandboxes and is unique to the caller.

    Raises UnknownCommit, and RuntimeProblem where the sandboxes themselves do not work.
    """
    place = Place(
        runtime=runtime(),
        name=name,
        project=network_name(project.pk),
        scratch=Path(settings.EKLAVYA_VAR) / "checks",
        labels={"check": str(project.pk)},
    )
    return verify(repository(project.pk), commit, place=place, require_app=require_app)


def facts_of(seen: VerificationResult) -> dict[str, Any]:
    """Return an observation as the fields of `agents.models.Verification`."""
    return {
        "commit": seen.commit,
        "tree": seen.tree,
        "passed": seen.passed,
        "reason": seen.reason,
        "detail": seen.detail,
        "tests_run": seen.tests_run,
        "test_output": seen.test_output_tail,
        "test_output_sha256": seen.test_output_sha256,
        "start_output": seen.start_output_tail,
        "duration_s": Decimal(f"{seen.test_duration_s:.3f}"),
    }
