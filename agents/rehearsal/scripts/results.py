"""What a task asks to be returned: the brief names it, and the rehearsal's answer is always the favourable one."""

from __future__ import annotations

import re
from dataclasses import replace

from ..context import Context
from ..wire import JSON
from .engine import Call, Script

_ASKED = re.compile(r"Return \{(.*?)\}", re.DOTALL)
_FIELD = re.compile(r'"(\w+)":\s*("[^"]*"|true|false|\[|…|\.\.\.)')
_VALUES: dict[str, object] = {"true": True, "false": False, "[": []}


def asked_for(description: str) -> JSON:
    """Return an answer to `Return {"passed": true or false, …}`: of each field the first value that is named."""
    found = _ASKED.search(description)
    if found is None:
        return {}
    return {name: _VALUES.get(value, value.strip('"')) for name, value in _FIELD.findall(found[1])}


def returning(context: Context, script: Script) -> Script:
    """The script, which returns what its task asks for when it completes it."""
    result = asked_for(context.description)
    if not result:
        return (yield from script)
    try:
        step = next(script)
        while True:
            step = script.send((yield replace(step, calls=[_with(call, result) for call in step.calls])))
    except StopIteration as stop:
        return str(stop.value)


def _with(call: Call, result: JSON) -> Call:
    return replace(call, input=call.input | {"result": result}) if call.tool == "task_complete" else call
