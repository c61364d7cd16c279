"""What a verification is given, and what it found. Data only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from agents.runtimes.contract import Limits, Runtime

Reason = Literal[
    "ok",
    "manifest_missing",  # an application is due, and there is no eklavya.toml
    "manifest_invalid",
    "no_test_command",
    "tests_failed",
    "no_tests_ran",  # the command succeeded, or gave up, without a test
    "tests_timed_out",
    "start_missing",
    "start_failed",  # the start command ended
    "health_failed",  # it lives, but its health path never answered 200
]
"""Why a verification passed or did not; the first thing found wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a verification happens."""

    runtime: Runtime
    name: str
    """Unique to this verification: its sandboxes are `<name>-test` and `<name>-app`, at most 56 characters."""
    project: str
    """The runtime's short id of the project."""
    scratch: Path
    """An absolute directory of the host for checkouts; each verification makes one of its own in it, and removes it."""
    limits: Limits = field(default_factory=Limits)
    labels: Mapping[str, str] = field(default_factory=dict)
    """Marks for the sweep that clears sandboxes nobody owns any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long the commit's own commands may take, in seconds."""

    test_s: float = 120.0
    start_s: float = 30.0
    """From the start command to the first answer 200, with the tests at work beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationResult:
    """What was observed. Texts hold no NUL characters and are cut at the front."""

    commit: str
    tree: str
    """The id of the commit's tree: what exactly was checked out."""
    passed: bool
    reason: Reason
    detail: str
    """One sentence for people."""
    tests_run: int = 0
    """Tests that were executed, skipped ones not counted, as the test runner's summary says."""
    test_output_tail: str = ""
    test_output_sha256: str = ""
    """Of the output as far as it was kept, in UTF-8; empty when no test command was run."""
    test_duration_s: float = 0.0
    started: bool = False
    """The application answered 200 at its health path."""
    start_output_tail: str = ""
