"""Carrying out a verb for an agent: refused or done, it is told in words and in the audit log."""

import json
import logging
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import InterfaceError, OperationalError
from pydantic import ValidationError

from agents import queries
from agents.actions import faults
from agents.actions.verbs import GIVES_UP, actor_of
from agents.errors import UnknownToken
from agents.gateway.unserved import BROKEN
from agents.gateway.verbs import VERBS, Arguments, Verb, may_call
from agents.models import Run
from agents.tool_calls import input_digest
from projects import audit
from projects.errors import DomainError

logger = logging.getLogger(__name__)
_MOST_PROBLEMS = 10


class NotBegun(Exception):
    """The database did not answer, and nothing was done."""


class Told(NamedTuple):
    """What an agent is told of its verb, whether that is an error, and whether the platform is to blame for it."""

    text: str
    is_error: bool
    is_ours: bool = False


def call_verb(token: str, name: str, arguments: dict[str, Any], *, now: datetime, is_excused: bool = False) -> Told:
    """Carry out a verb for the run of `token`. Raises NotBegun; then it may be called again.

    `is_excused`: the platform left the agent without an answer a moment ago. If it gives up now, that is why.
    """
    try:
        run = queries.run_by_token(token)
    except UnknownToken as error:
        return Told(str(error), is_error=True)
    except (OperationalError, InterfaceError) as error:
        raise NotBegun(str(error)) from error
    try:
        return Told(_carry_out(run, name, arguments, now=now, is_excused=is_excused), is_error=False)
    except DomainError as error:
        return Told(_refuse(run, name, str(error), now=now), is_error=True)
    except ValidationError as error:
        sentence = f"The arguments of {name[:60]} are wrong: {_problems(error)}"
        return Told(_refuse(run, name, sentence, now=now), is_error=True)
    except Exception:  # the agent must hear of it in its own words, and the run go on
        logger.exception("verb failed", extra={"verb": name[:60], "run": str(run.pk)})
        return Told(_broken(run, name, now=now), is_error=True, is_ours=True)


def _broken(run: Run, name: str, *, now: datetime) -> str:
    with suppress(OperationalError, InterfaceError):  # what the verb failed of is in the log at any rate
        _refuse(run, name, BROKEN, now=now, unserved=True)
    return BROKEN


def _carry_out(run: Run, name: str, arguments: dict[str, Any], *, now: datetime, is_excused: bool) -> str:
    verb = VERBS.get(name)
    if verb is None:
        raise DomainError(f"There is no tool called “{name[:60]}”.")
    if not may_call(run, verb):
        raise DomainError(f"{name} is not for the role {run.agent.agent_type}.")
    valid = verb.arguments.model_validate(arguments)
    if verb.is_ending:
        answer = _end(run, verb, valid, now=now, is_excused=is_excused and name == GIVES_UP)
    else:
        answer = verb.call(run, valid, now)
        _note_call(run, name, arguments, now=now)
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, default=str)


def _note_call(run: Run, name: str, arguments: dict[str, Any], *, now: datetime) -> None:
    """Record a verb that was carried out; what it changed has rows of its own, in its transaction."""
    with audit.journal(by=actor_of(run), now=now) as journal:
        details = {"verb": name, "input_sha256": input_digest(arguments)}
        journal.add("mcp.called", project_id=run.project_id, obj=run, details=details)


def _end(run: Run, verb: Verb[Any], valid: Arguments, *, now: datetime, is_excused: bool) -> Any:
    with audit.journal(by=actor_of(run), now=now) as journal:
        answer = verb.call(run, valid, now)
        details: dict[str, str | bool] = {"verb": verb.name}
        if is_excused:
            faults.excuse(run)
            details["unserved"] = True
        journal.add("mcp.ended", project_id=run.project_id, obj=run, details=details)
    return answer


def _refuse(run: Run, name: str, sentence: str, *, now: datetime, **more: bool) -> str:
    with audit.journal(by=actor_of(run), now=now) as journal:
        details: dict[str, str | UUID | bool] = {"verb": name[:60], "why": sentence[:500], **more}
        journal.add("mcp.refused", project_id=run.project_id, obj=run, details=details)
    return sentence


def _shown(part: int | str) -> str:
    """A step of an argument's place. Names come from the agent too."""
    text = str(part)[:60]
    return text if text.isprintable() else ascii(text)


def _problems(error: ValidationError) -> str:
    """Return what is wrong, and not the values: they may be long."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    texts = [f"{'.'.join(map(_shown, one['loc'])) or 'arguments'}: {one['msg']}" for one in found]
    more = len(texts) - _MOST_PROBLEMS
    return "; ".join(texts[:_MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else "") + "."
