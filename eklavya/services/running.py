"""Is there a stack already, and does it work?"""

from dataclasses import dataclass

from eklavya.env import Env
from eklavya.services import components as programs
from eklavya.services.child import Spec
from eklavya.services.instance import is_held, read_record
from eklavya.services.postgres import postgres_spec
from eklavya.services.valkey import valkey_spec


@dataclass(frozen=True)
class Running:
    """A stack that runs, in this process or another."""

    pid: int
    url: str
    state: str
    healthy: dict[str, bool]
    """Each process's own answer, by its name."""


def running(env: Env) -> Running | None:
    """The live stack of this data directory, each of its processes asked now; None when there is none."""
    record = read_record(env.EKLAVYA_VAR) if is_held(env.EKLAVYA_VAR) else None
    if record is None:
        return None
    specs = all_specs(env)
    healthy = {name: specs[name].ready() for name in record["processes"]}
    return Running(pid=record["pid"], url=record["url"], state=record["state"], healthy=healthy)


def all_specs(env: Env) -> dict[str, Spec]:
    """Every process that a stack can have, by its name."""
    servers = {"postgres": postgres_spec(env.EKLAVYA_VAR), "valkey": valkey_spec(env.EKLAVYA_VAR)}
    return {**servers, **programs.program_specs(env, isolated=False)}
