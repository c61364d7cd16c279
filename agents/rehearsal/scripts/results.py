"""What a task asks to be returned: its brief names it, or the conditions on what follows do. The rehearsal's answer is
always the favourable one."""

from __future__ import annotations

import re
from dataclasses import replace

from ..context import Context
from ..wire import JSON
from .engine import Call, Script

_ASKED = re.compile(r"Return \{(.*?)\}", re.DOTALL)
_FIELD = re.compile(r'"(\w+)":\s*("[^"]*"|true|false|\[|…|\.\.\.)')
# As in result.verdict == 'approved'.
_COMPARED = re.compile(r"""\bresult\.(\w+)(?:\s*[!=]=\s*(?:'([^']*)'|"([^"]*)"|(true|false|-?\d+)))?""")
_GOOD = re.compile(r"approve|accept|pass|ok\b|yes|good|green", re.IGNORECASE)
_VALUES: dict[str, object] = {"true": True, "false": False, "[": []}


def asked_for(description: str) -> JSON:
    """Return an answer to `Return {"passed": true or false, …}`: of each field the first value that is named."""
    found = _ASKED.search(description)
    if found is None:
        return {}
    return {name: _VALUES.get(value, value.strip('"')) for name, value in _FIELD.findall(found[1])}


def compared(conditions: list[str]) -> JSON:
    """Return an answer on which conditions can be decided: of each field the value that is best among those named."""
    found: dict[str, list[object]] = {}
    for condition in conditions:
        for name, single, double, plain in _COMPARED.findall(condition):
            found.setdefault(name, []).append(_value(single or double, plain))
    return {name: next((one for one in values if _is_good(one)), values[0]) for name, values in found.items()}


def _value(text: str, plain: str) -> object:
    """Return what a field is compared with; of a field that is a condition by itself, or true or false, true."""
    if text:
        return text
    return int(plain) if plain.lstrip("-").isdigit() else True


def _is_good(value: object) -> bool:
    return value is True or (isinstance(value, str) and _GOOD.search(value) is not None)


def returning(context: Context, script: Script) -> Script:
    """The script, which returns what its task asks for when it completes it."""
    result = compared(context.decides) | asked_for(context.description)
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
