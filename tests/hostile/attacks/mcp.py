"""The verbs of the MCP server, without the CLI between."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .base import Stopped, Trace, World, attack, control
from .wire import http

_REFUSED = "refused"


def call(world: World, verb: str, arguments: "dict[str, Any]", **more: Any) -> str:
    """Call a verb, and return what it says. Raises Stopped with the refusal."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": verb, "arguments": arguments}}
    answer = http(world, "POST", "/mcp", body, **more)
    if answer.status != 200:
        raise Stopped(f"{answer.status} {answer.body[:150].decode(errors='replace')}")
    result = answer.json["result"]
    said = result["content"][0]["text"]
    if result.get("isError"):
        raise Stopped(said)
    return str(said)


def _audit(needle: str) -> Trace:
    return ("mcp.refused", needle)


@control("mcp-own-verb", "a verb of its own role works")
def own(world: World) -> str:
    return call(world, "report_progress", {"percent": 10, "message": "Looking around."})


@control("mcp-own-message", "a message within its own project is taken")
def own_message(world: World) -> str:
    return call(world, "send_message", {"to": "broadcast", "body": world["hostile_text"]})


_PLAN = {"tasks": [{"key": "a", "title": "Give me everything", "role": "developer"}]}


@attack(
    "mcp-plan",
    "hands in a plan as the architect",
    stopped="not for the role",
    control="inside",
    trace=_audit("submit_plan"),
)
def plan(world: World) -> str:
    return call(world, "submit_plan", _PLAN)


@attack(
    "mcp-requirements",
    "hands in requirements as the PM",
    stopped="not for the role",
    control="inside",
    trace=_audit("submit_requirements"),
)
def requirements(world: World) -> str:
    return call(world, "submit_requirements", {"requirements": [{"title": "Give me everything"}]})


@attack(
    "mcp-client",
    "asks the client for a password",
    stopped="not for the role",
    control="inside",
    trace=_audit("ask_client"),
)
def client(world: World) -> str:
    return call(world, "ask_client", {"questions": [{"question": "What is your password?"}]})


@attack(
    "mcp-mentor", "answers as the mentor", stopped="not for the role", control="inside", trace=_audit("reply_mentor")
)
def mentor(world: World) -> str:
    return call(world, "reply_mentor", {"reply": "Merge it."})


@attack(
    "mcp-approve",
    "approves its own work by a verb that it guesses",
    stopped="no tool called",
    control="inside",
    trace=_audit("approve"),
)
def approve(world: World) -> str:
    return call(world, "approve", {"id": 1})


@attack(
    "mcp-project",
    "names another project in the arguments",
    stopped="project_id",
    control="inside",
    trace=_audit("project_id"),
)
def project(world: World) -> str:
    arguments = {"percent": 99, "message": "x", "project_id": world["neighbour_id"]}
    return call(world, "report_progress", arguments)


@attack(
    "mcp-neighbour",
    "writes to an agent of another project",
    stopped="[Nn]o|nobody|not",
    control="inside",
    trace=_audit("send_message"),
)
def neighbour(world: World) -> str:
    return call(world, "send_message", {"to": world["neighbour_agent"], "body": "Give up."})


@attack("mcp-progress", "reports more than all", stopped="percent", control="inside", trace=_audit("percent"))
def progress(world: World) -> str:
    return call(world, "report_progress", {"percent": 10**30, "message": "x"})


@attack(
    "mcp-hidden",
    "hides instructions in marks that people do not see",
    stopped="control character",
    control="inside",
    trace=_audit("control character"),
)
def hidden(world: World) -> str:
    return call(world, "send_message", {"to": "broadcast", "body": "Fine.\u202e\U000e0041\U000e0042"})


@attack("mcp-long", "writes a message of a megabyte", stopped="20000", control="inside", trace=_audit("20000"))
def long(world: World) -> str:
    return call(world, "send_message", {"to": "broadcast", "body": "x" * 2**20})


@attack("mcp-huge", "sends a request that fills the gateway's memory", stopped="413", control="inside")
def huge(world: World) -> str:
    return call(world, "send_message", {"to": "broadcast", "body": "x"}, Content_Length=str(2**33))


@attack("mcp-deep", "sends JSON that overflows a stack", stopped="400.*deep", control="inside")
def deep(world: World) -> str:
    answer = http(world, "POST", "/mcp", b"[" * 100_000 + b"]" * 100_000)
    raise Stopped(f"{answer.status} {answer.body[:100]!r}")


@attack("mcp-batch", "gets past the rate limit by a batch", stopped="400.*[Bb]atch", control="inside")
def batch(world: World) -> str:
    one = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    answer = http(world, "POST", "/mcp", [one] * 50)
    if answer.status == 200:
        return "50 at once"
    raise Stopped(f"{answer.status} {answer.body[:100]!r}")


@attack("mcp-browser", "has a visitor's browser call the verbs", stopped="403", control="inside")
def browser(world: World) -> str:
    return call(world, "report_progress", {"percent": 1, "message": "x"}, Origin="https://exfil.example")


@attack("mcp-rebinding", "calls them under a public name that leads to the host", stopped="421", control="inside")
def rebinding(world: World) -> str:
    return call(world, "report_progress", {"percent": 1, "message": "x"}, Host="exfil.example")


@attack(
    "flood-verbs",
    "calls verbs until the database is full",
    stopped="429",
    control="inside",
    trace=("mcp.rate_limited", ""),
)
def flood(world: World) -> str:
    """Six at a time, which is allowed; 100 at once and 300 a minute are."""

    def ask(_: int) -> str:
        answer = http(world, "POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "ping"})
        return answer.body.decode(errors="replace") if answer.status == 429 else ""

    with ThreadPoolExecutor(6) as pool:
        for refused in pool.map(ask, range(600)):
            if "a minute" in refused:
                pool.shutdown(wait=False, cancel_futures=True)
                raise Stopped(f"429 {refused}")
    return "600 calls"
