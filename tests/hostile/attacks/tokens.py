"""Tokens that are not the run's."""

import hashlib
import time

from .base import Stopped, World, attack, control
from .egress import tunnel
from .mcp import call
from .wire import http, model_request, token

_OLD = ("expired", "ended run")


@control("token-own", "the run's own token works at the model gateway")
def own(world: World) -> str:
    answer = http(world, "POST", "/models/anthropic/v1/messages", model_request(world))
    assert answer.status == 200, answer
    return "answered"


@control("old-own", "the run's own token works")
def own_again(world: World) -> str:
    return own(world)


def _model(world: World, bearer: str) -> str:
    answer = http(world, "POST", "/models/anthropic/v1/messages", model_request(world), bearer=bearer)
    if answer.status == 200:
        return "answered"
    raise Stopped(f"{answer.status} {answer.json['error']['type']}")


def _verb(world: World, bearer: str) -> str:
    return call(world, "report_progress", {"percent": 1, "message": "x"}, bearer=bearer)


@attack("token-forged", "asks the model with a token it made up", stopped="401", control="inside")
def forged(world: World) -> str:
    return _model(world, "A" * 43)


@attack("token-changed", "changes one character of its own", stopped="401", control="inside")
def changed(world: World) -> str:
    own = token(world)
    return _model(world, own[:-1] + ("A" if own[-1] != "A" else "B"))


@attack("token-hash", "shows what the database keeps of its token", stopped="401", control="inside")
def hashed(world: World) -> str:
    return _model(world, hashlib.sha256(token(world).encode()).hexdigest())


@attack("token-empty", "shows none", stopped="401", control="inside")
def empty(world: World) -> str:
    answer = http(world, "POST", "/models/anthropic/v1/messages", model_request(world), Authorization="(none)")
    if answer.status == 200:
        return "answered"
    raise Stopped(f"{answer.status} {answer.json['error']['type']}")


@attack("token-query", "writes SQL where the token goes", stopped="401", control="inside")
def query(world: World) -> str:
    return _verb(world, "' OR status='running' --")


@attack("token-run-id", "shows another run's id", stopped="401", control="inside")
def run_id(world: World) -> str:
    return _verb(world, world["neighbour_run"])


@attack("token-verbs", "calls verbs with a token it made up", stopped="401", control="inside")
def verbs(world: World) -> str:
    return _verb(world, "B" * 43)


@attack("old-model", "asks the model with the token of a run that has ended", stopped="401", control="inside")
def old_model(world: World) -> str:
    return _model(world, world["old_token"])


@attack("old-verbs", "calls verbs with it", stopped="401", control="inside")
def old_verbs(world: World) -> str:
    return _verb(world, world["old_token"])


@attack(
    "old-egress",
    "gets out with it",
    stopped="407.*unknown_token",
    control="inside",
    trace=("egress.refused", "unknown_token"),
)
def old_egress(world: World) -> str:
    time.sleep(0)
    return tunnel(world, "packages.example:443", bearer=world["old_token"])
