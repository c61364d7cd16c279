"""What the platform itself sees of a commit: the link from `agents.verification`, which knows no rows, to rows."""

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings

from agents.machine import MB
from agents.runtimes.errors import RuntimeUnavailable
from agents.sandboxes import network_name, repository, runtime
from agents.verification import Place, VerificationResult, verify
from projects.jsontext import storable_text
from projects.models import Project

# What a disk that is full can make of any program.
_OF_DISK = frozenset({"tests_failed", "no_tests_ran", "tests_timed_out", "start_failed", "health_failed"})


def observe(project: Project, commit: str, *, name: str, require_app: bool) -> VerificationResult:
    """Check a commit out clean, test it and start it. `name` names its sandboxes and is unique to the caller.

    Raises UnknownCommit, and RuntimeProblem where the sandboxes themselves do not work, or something failed while the
    machine's disk is nearly full: that says nothing about the commit.
    """
    place = Place(
        runtime=runtime(),
        name=name,
        project=network_name(project.pk),
        scratch=Path(settings.EKLAVYA_VAR) / "checks",
        labels={"check": str(project.pk)},
    )
    seen = verify(repository(project.pk), commit, place=place, require_app=require_app)
    if seen.reason in _OF_DISK and is_disk_short():
        raise RuntimeUnavailable(f"The machine's disk is nearly full, and so {seen.reason} says nothing.")
    return seen


def is_disk_short() -> bool:
    """Whether this machine has less disk than it needs to take new runs (EKLAVYA_MIN_DISK_MB)."""
    return shutil.disk_usage(settings.EKLAVYA_VAR).free // MB < settings.EKLAVYA_MIN_DISK_MB


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


def facts_unseen(commit: str, reason: str, detail: str) -> dict[str, Any]:
    """Return the same fields where nothing could be observed: `reason` is the platform's, and not the commit's."""
    return {
        "commit": commit,
        "tree": "",
        "passed": False,
        "reason": reason,
        "detail": storable_text(detail, max_chars=2_000),
        "duration_s": Decimal(0),
    }
