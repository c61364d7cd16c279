"""Is there a stack already, and does it work?"""

from dataclasses import dataclass

from django.db import OperationalError

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


def why_unreachable(error: OperationalError, env: Env) -> str:
    """What to do about a database that does not answer, in one line; empty when one answered, and refused."""
    if getattr(error.__cause__, "sqlstate", None):
        return ""
    if env.DATABASE_URL:
        said = " ".join(str(error.__cause__ or error).split())
        return f"DATABASE_URL does not answer ({said}): start that server, or correct the variable"
    if is_held(env.EKLAVYA_VAR):
        log = env.EKLAVYA_VAR / "logs" / "postgres.log"
        return f"the database does not answer: is Eklavya just starting? Try again in a moment (log: {log})"
    return f"the database of {env.EKLAVYA_VAR} is stopped: start it with `make run`, and try again beside it"


def all_specs(env: Env) -> dict[str, Spec]:
    """Every process that a stack can have, by its name."""
    servers = {"postgres": postgres_spec(env.EKLAVYA_VAR), "valkey": valkey_spec(env.EKLAVYA_VAR)}
    return {**servers, **programs.program_specs(env, isolated=False)}
