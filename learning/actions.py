"""Every write to learning: prompt versions and the outcomes of runs under them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from django.db import connection
from django.db.models import Count, Max, Q

from learning.errors import InvalidPrompt
from learning.models import Outcome, PromptVersion
from learning.shipped import shipped_prompt
from learning.states import PROMPT_TRANSITIONS, PromptStatus
from projects import audit
from projects.actors import Actor
from projects.ids import new_id
from projects.jsontext import storable_text
from projects.roles import Role
from projects.transitions import step

MAX_PROMPT_CHARS = 50_000
_PLACES = Decimal("0.0001")


@dataclass(frozen=True)
class Loaded:
    """What `load_prompts` did for a role: `kept` means that a person's choice stands against a changed file."""

    role: Role
    version: int
    result: Literal["created", "unchanged", "kept"]


def load_prompts(*, by: Actor, now: datetime, read: Callable[[Role], str] = shipped_prompt) -> list[Loaded]:
    """Bring each role's shipped prompt into the database and make it the active one.

    Idempotent, and safe when two starts do it at once. A changed file becomes the next version; but where a person
    wrote a newer version or made another one active, theirs stays and the file is left alone.
    """
    with audit.journal(by=by, now=now) as journal:
        _lock_versions()
        return [_load(role, read(role), journal=journal) for role in Role]


def write_prompt(role: Role, text: str, *, by: Actor, now: datetime) -> PromptVersion:
    """Add a person's version as a draft. Raises InvalidPrompt for an empty or overlong text."""
    text = storable_text(text).strip()
    if not text:
        raise InvalidPrompt("The prompt is empty.")
    if len(text) > MAX_PROMPT_CHARS:
        raise InvalidPrompt(f"The prompt has {len(text):,} characters; the limit is {MAX_PROMPT_CHARS:,}.")
    with audit.journal(by=by, now=now) as journal:
        _lock_versions()
        return _write(role, text, origin=PromptVersion.Origin.PERSON, journal=journal)


def activate_prompt(version: PromptVersion, *, by: Actor, now: datetime) -> None:
    """Make a version the one that new runs get; the one before it is retired. Running agents keep theirs."""
    with audit.journal(by=by, now=now) as journal:
        _lock_versions()
        _activate(version, journal)


def retire_prompt(version: PromptVersion, *, by: Actor, now: datetime) -> None:
    """Put a draft or a trial away. An active version is only ever replaced: a role must not be without."""
    if version.status == PromptStatus.ACTIVE:
        raise InvalidPrompt(f"{version} is active. Make another version active instead.")
    with audit.journal(by=by, now=now) as journal:
        step(version, PromptStatus.RETIRED, table=PROMPT_TRANSITIONS)
        journal.add("prompt.retired", obj=version, details=_named(version))


@dataclass(frozen=True)
class RunFacts:
    """What an ended run leaves to learn from. `cost` in the account's currency, `duration_s` of wall-clock."""

    run_id: UUID
    project_id: UUID
    prompt_version_id: UUID
    succeeded: bool
    reason: str
    cost: Decimal
    duration_s: Decimal
    turns: int


def record_outcome(facts: RunFacts, *, by: Actor, now: datetime) -> Outcome:
    """Note what a run led to and bring its prompt's success rate up to date.

    Idempotent: the first report of a run stands, later ones change nothing. Raises PromptVersion.DoesNotExist.
    """
    with audit.journal(by=by, now=now) as journal:
        # The lock orders reports of one version, so that no success rate misses a run that ended at the same time.
        version = PromptVersion.objects.select_for_update().get(pk=facts.prompt_version_id)
        outcome, is_new = Outcome.objects.get_or_create(
            run_id=facts.run_id,
            defaults={
                "id": new_id(),
                "project_id": facts.project_id,
                "prompt_version": version,
                "succeeded": facts.succeeded,
                "reason": storable_text(facts.reason, max_chars=64),
                "cost": facts.cost,
                "duration_s": facts.duration_s,
                "turns": facts.turns,
                "created_at": now,
            },
        )
        if is_new:
            _rate(version)
            details = {"run": facts.run_id, "prompt": str(version), "succeeded": facts.succeeded}
            journal.add("outcome.recorded", project_id=facts.project_id, obj=outcome, details=details)
    return outcome


def _load(role: Role, text: str, *, journal: audit.Journal) -> Loaded:
    text = text.strip()
    versions = PromptVersion.objects.filter(agent_type=role)
    newest = versions.order_by("-version").first()
    shipped = versions.filter(origin=PromptVersion.Origin.SHIPPED).order_by("-version").first()
    if shipped and shipped.prompt_text == text:
        return Loaded(role, shipped.version, "unchanged")
    if newest and (newest != shipped or newest.status != PromptStatus.ACTIVE):
        return Loaded(role, newest.version, "kept")
    version = _write(role, text, origin=PromptVersion.Origin.SHIPPED, journal=journal)
    _activate(version, journal)
    return Loaded(role, version.version, "created")


def _write(role: Role, text: str, *, origin: PromptVersion.Origin, journal: audit.Journal) -> PromptVersion:
    newest = PromptVersion.objects.filter(agent_type=role).aggregate(newest=Max("version"))["newest"] or 0
    version = PromptVersion.objects.create(
        id=new_id(), agent_type=role, version=newest + 1, prompt_text=text, origin=origin, created_at=journal.now
    )
    journal.add("prompt.written", obj=version, details=_named(version) | {"origin": origin.value})
    return version


def _activate(version: PromptVersion, journal: audit.Journal) -> None:
    actives = PromptVersion.objects.filter(agent_type=version.agent_type, status=PromptStatus.ACTIVE)
    for before in actives.exclude(pk=version.pk):
        step(before, PromptStatus.RETIRED, table=PROMPT_TRANSITIONS)
    step(version, PromptStatus.ACTIVE, table=PROMPT_TRANSITIONS)
    journal.add("prompt.activated", obj=version, details=_named(version))


def _rate(version: PromptVersion) -> None:
    counts = version.outcomes.aggregate(all=Count("pk"), good=Count("pk", filter=Q(succeeded=True)))
    version.success_rate = (Decimal(counts["good"]) / counts["all"]).quantize(_PLACES)
    version.save(update_fields=["success_rate"])


def _named(version: PromptVersion) -> dict[str, object]:
    return {"role": version.agent_type, "version": version.version}


def _lock_versions() -> None:
    """Let one transaction at a time number and activate versions; rows alone cannot be locked before they exist."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('learning.prompt_versions'))")
