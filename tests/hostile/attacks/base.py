"""How an attack is written down, and how it is carried out."""

import errno
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

World = dict[str, Any]
"""Where things are, as far as an attacker could find them out: addresses, ports, paths, names."""

Control = str
"""Where the same probe succeeds: "naked" (a privileged container with everything handed in), "host" (this machine, or a
service without the guard), "inside" (a neighbouring attempt that is allowed: see `CONTROLS`), or "outside" (the test
looks itself)."""

Trace = tuple[str, str]
"""Where the platform wrote it down: ("transcript", ""), or an audit row's action and a part of its details."""

TRANSCRIPT: Trace = ("transcript", "")
MOST_EVIDENCE = 200


class Stopped(Exception):
    """The attack came to nothing. Says by what that shows."""


@dataclass(frozen=True)
class Attack:
    """One thing tried. `call` returns what it won, or raises OSError or Stopped."""

    id: str
    aim: str
    """What success would be."""
    call: Callable[[World], str]
    stopped: str = ""
    """A pattern of what stops it: any other failure means that it was not really tried."""
    control: Control = "naked"
    trace: Trace = TRANSCRIPT

    @property
    def family(self) -> str:
        """The class of attacks: the id's first part."""
        return self.id.partition("-")[0]


ATTACKS: dict[str, Attack] = {}
CONTROLS: dict[str, Attack] = {}
"""What is allowed, and must work from the same place at the same time. One for each family that names "inside"."""


def attack(
    name: str, aim: str, *, stopped: str, control: Control = "naked", trace: Trace = TRANSCRIPT
) -> Callable[[Callable[[World], str]], Callable[[World], str]]:
    """Register an attack."""

    def register(call: Callable[[World], str]) -> Callable[[World], str]:
        assert name not in ATTACKS, name
        ATTACKS[name] = Attack(name, aim, call, stopped, control, trace)
        return call

    return register


def control(name: str, aim: str) -> Callable[[Callable[[World], str]], Callable[[World], str]]:
    """Register what must work."""

    def register(call: Callable[[World], str]) -> Callable[[World], str]:
        CONTROLS[name] = Attack(name, aim, call, control="none")
        return call

    return register


def attempt(one: Attack, world: World) -> dict[str, str]:
    """Carry it out. "broken" is an attack's own mistake: it shows nothing."""
    try:
        outcome, evidence = "succeeded", one.call(world)
    except Stopped as error:
        outcome, evidence = "stopped", str(error)
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, type(error).__name__)
        outcome, evidence = "stopped", f"{code}: {error}"
    except BaseException:
        outcome, evidence = "broken", traceback.format_exc()[-MOST_EVIDENCE:]
    return {"id": one.id, "outcome": outcome, "evidence": evidence[:MOST_EVIDENCE]}


def main(arguments: list[str]) -> None:
    """Carry out the families named, or those attacks that a control of this kind is for (`@naked`, `@host`)."""
    with open(arguments[0]) as file:
        world = json.load(file)
    chosen = set(arguments[1].split(","))
    everything = [*CONTROLS.values(), *ATTACKS.values()]
    found = [one for one in everything if chosen & {one.family, one.id, f"@{one.control}"}]
    sys.stdout.write(json.dumps([attempt(one, world) for one in found]) + "\n")
