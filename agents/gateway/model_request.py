"""Reading a request to the model: what it may cost at most, and what an agent may not ask for.

The sandbox has no network and a budget. A request could get around both: by having the API fetch an address, search
the web or call other servers, by naming other models to fall back on, or by options with prices of their own. It is
forwarded byte by byte as it came, which makes it important that the API reads it as it is read here: no duplicate keys,
no other encodings.

Fields that this page does not know are where "unchanged" and "not a cent above" meet. The API itself refuses names that
it does not know, so an unknown one that works is a feature; and of its newer fields more than half have a price or a
reach (container, mcp_servers, fallbacks, speed, inference_geo, service_tier, compaction, thread, billing_policy).
Neither a name nor a value tells which kind the next one is. So it passes when it says nothing (null, false, an empty
list), or when the operator has looked it up and named it in EKLAVYA_MODEL_FIELDS, or all with "*"; else the agent is
told which field it was. Names whose price or reach is known stay refused whatever the operator names.

All fields that the API documents are known, so that "unknown" is what it did not have when this was written.

Source: https://docs.anthropic.com/en/api/messages, and the parameters of the API's own Python client (2.11).
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, NoReturn

from agents.gateway.api_errors import ApiError
from billing.prices import Usage, base_model

JSON = dict[str, Any]

MAX_BODY_BYTES = 32 * 1024 * 1024
_FIELDS = frozenset(
    {
        "cache_control",
        "context_management",
        "diagnostics",
        "fallback_credit_token",  # of a request that was refused: the next one is cheaper by it
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "output_format",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
# Fields that may only say what would be so without them; other values have other prices, another reach, bring text that
# is not in the request, or have somebody else pay.
_PLAIN_VALUES: dict[str, tuple[Any, ...]] = {
    "billing_policy": (None,),
    "compaction": (None,),
    "container": (None,),
    "fallbacks": (None, []),
    "inference_geo": (None, "global"),
    "mcp_servers": (None, []),
    "service_tier": (None, "auto", "standard_only"),
    "speed": (None, "standard"),
    "thread": (None,),
    "user_profile_id": (None,),
    "workspace_id": (None,),
}
# What an unknown field may say: nothing.
_NOTHING: tuple[Any, ...] = (None, False, [])
# Tools that the CLI itself carries out, in the sandbox. Those without a type are the CLI's own.
_CLIENT_TOOLS = ("custom", "bash_", "computer_", "text_editor_", "memory_", "tool_search_tool_")
# Tools that the API carries out: for roles that research, and never more of them than the request says. Running code
# and other servers (MCP) have prices and reach that no request says, so they are for nobody.
_WEB_TOOLS = ("web_search_", "web_fetch_")
_MOST_USES = 10
# Ten dollars for a thousand searches (https://docs.anthropic.com/en/docs/about-claude/pricing); a fetch is free.
SEARCH_FEE = Decimal("0.01")
_INLINE_SOURCES = frozenset({"base64", "text", "content"})
# What the API adds to a prompt by itself when there are tools, in tokens, with a margin.
_HIDDEN_TOKENS = 2_000
# An image costs up to about 1600 tokens however few bytes it has; twice that again as a margin.
_IMAGE_TOKENS = 5_000
_CONTEXT_TOKENS = dict.fromkeys(("claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5"), 200_000)
_LARGEST_CONTEXT_TOKENS = 1_000_000


@dataclass(frozen=True)
class ModelRequest:
    """A request that may be forwarded. `input_bound` is the most tokens that its input can have."""

    body: bytes
    model: str
    max_tokens: int
    input_bound: int
    has_long_cache: bool
    fees: Decimal = Decimal(0)
    """The most that it can cost besides its tokens."""
    unknown: tuple[str, ...] = ()
    """Its fields that are not known here, say something, and may pass."""

    @property
    def most(self) -> Usage:
        """The most that it can use."""
        short, long = (0, self.input_bound) if self.has_long_cache else (self.input_bound, 0)
        return Usage(
            output_tokens=self.max_tokens, cache_write_tokens=short, long_cache_write_tokens=long, fees=self.fees
        )


@dataclass(frozen=True)
class _Uses:
    """How often the API may use its own tools."""

    searches: int = 0
    fetches: int = 0


def with_model(asked: ModelRequest, model: str) -> ModelRequest:
    """Return the same request to another model. Its body is written anew: the one case where it is not as it came."""
    body = json.dumps({**json.loads(asked.body), "model": model}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return replace(asked, body=body, model=model, input_bound=max(asked.input_bound, len(body) + _HIDDEN_TOKENS))


def read_request(
    body: bytes, *, counting: bool = False, researches: bool = False, also: Collection[str] = ()
) -> ModelRequest:
    """Check a request's body. Raises ApiError.

    `counting` is for the endpoint that only counts tokens, `researches` says that the role may read the web, `also`
    are further fields that the operator lets pass ("*": all).
    """
    content, has_long_cache = _parse(body)
    unknown = tuple(_check_fields(content, also))
    model = content.get("model")
    if not isinstance(model, str) or not model:
        _refuse("model: Field required")
    if type(content.get("stream", False)) is not bool:
        _refuse("stream: Input should be a valid boolean")
    uses = _check_tools(content.get("tools"), researches=researches)
    _check_context_management(content.get("context_management"))
    sources = [_check_source(block) for block in _message_blocks(content)]
    return ModelRequest(
        body=body,
        model=model,
        max_tokens=0 if counting else _max_tokens(content),
        input_bound=_input_bound(model, len(body), sources, uses=uses.searches + uses.fetches),
        fees=SEARCH_FEE * uses.searches,
        has_long_cache=has_long_cache,
        unknown=unknown,
    )


def _refuse(message: str) -> NoReturn:
    raise ApiError("invalid_request_error", message)


def _parse(body: bytes) -> tuple[JSON, bool]:
    """Return the body and whether the one-hour cache is asked for anywhere in it."""
    long_cache = False

    def read_object(pairs: list[tuple[str, Any]]) -> JSON:
        nonlocal long_cache
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("duplicate key")
        long_cache = long_cache or found.get("ttl") == "1h"
        return found

    try:
        content = json.loads(body.decode("utf-8"), object_pairs_hook=read_object, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        _refuse("The request body is not valid JSON.")
    if not isinstance(content, dict):
        _refuse("The request body must be a JSON object.")
    return content, long_cache


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check_fields(content: JSON, also: Collection[str]) -> Iterator[str]:
    """Yield the unknown fields that pass and say something."""
    for name, value in content.items():
        if name in _PLAIN_VALUES:
            if not _is_one_of(value, _PLAIN_VALUES[name]):
                _refuse(f"{name}: this value may not be used here")
        elif name not in _FIELDS and not _is_one_of(value, _NOTHING):
            if name not in also and "*" not in also:
                _refuse(
                    f"{name[:60]}: this field may not be used here, "
                    "unless the operator names it in EKLAVYA_MODEL_FIELDS"
                )
            yield name


def _is_one_of(value: object, values: tuple[Any, ...]) -> bool:
    # By their types too: to Python 0 is False.
    return any(type(value) is type(one) and value == one for one in values)


def _max_tokens(content: JSON) -> int:
    value = content.get("max_tokens")
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse("max_tokens: Input should be a valid integer")
    # With 0 the API fills the prompt cache and says nothing.
    if not 0 <= value <= _LARGEST_CONTEXT_TOKENS:
        _refuse("max_tokens: Input should be greater than or equal to 0 and possible")
    return value


def _check_tools(tools: object, *, researches: bool) -> _Uses:
    if tools is None:
        return _Uses()
    if not isinstance(tools, list):
        _refuse("tools: Input should be a valid list")
    uses = dict.fromkeys(_WEB_TOOLS, 0)
    for tool in tools:
        kind = _kind_of_tool(tool)
        if isinstance(kind, str) and kind.startswith(_CLIENT_TOOLS):
            continue
        web = next((name for name in _WEB_TOOLS if isinstance(kind, str) and kind.startswith(name)), None)
        if web is None:
            _refuse("tools: only tools that run in the sandbox may be used here")
        if not researches:
            _refuse("tools: reading the web is for roles with the egress class research")
        uses[web] += _max_uses(tool.get("max_uses"))
    return _Uses(*uses.values())


def _kind_of_tool(tool: object) -> object:
    if not isinstance(tool, dict):
        return None
    kind = tool.get("type")
    return "custom" if kind is None else kind


def _max_uses(value: object) -> int:
    """A tool that the API runs has it read the whole conversation once more each time."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_USES:
        _refuse(f"tools: max_uses of a web tool is needed, from 1 to {_MOST_USES}")
    return value


def _check_context_management(value: object) -> None:
    """Clearing costs nothing; compaction makes the API call the model once more."""
    edits = value.get("edits", []) if isinstance(value, dict) else []
    for edit in edits if isinstance(edits, list) else []:
        kind = edit.get("type") if isinstance(edit, dict) else None
        if not isinstance(kind, str) or not kind.startswith("clear_"):
            _refuse("context_management: only clearing may be used here")


def _message_blocks(content: JSON) -> Iterator[JSON]:
    messages = content.get("messages")
    for message in messages if isinstance(messages, list) else []:
        yield from _blocks(message.get("content") if isinstance(message, dict) else None)
    yield from _blocks(content.get("system"))


def _blocks(content: object) -> Iterator[JSON]:
    """Yield the blocks of a message, and those inside of tool results and documents."""
    for block in content if isinstance(content, list) else []:
        if not isinstance(block, dict):
            continue
        yield block
        if block.get("type") != "tool_use":  # a call's input is data and no content
            yield from _blocks(block.get("content"))
            source = block.get("source")
            yield from _blocks(source.get("content") if isinstance(source, dict) else None)


def _check_source(block: JSON) -> str:
    """Return "image", "document" (or something as long) or "" for anything that is no more tokens than bytes."""
    kind = block.get("type")
    if kind == "container_upload":
        _refuse("container_upload: may not be used here")
    source = block.get("source")
    # Of whatever kind: the next one that the API learns to fetch looks like these.
    if kind not in {"image", "document"} and not isinstance(source, dict):
        return ""
    form = source.get("type") if isinstance(source, dict) else None
    if not isinstance(form, str) or form not in _INLINE_SOURCES:
        _refuse(f"{str(kind)[:60]}: only content within the request may be used here")
    if form != "base64":
        return ""
    return "image" if kind == "image" else "document"


def _input_bound(model: str, size_bytes: int, sources: list[str], *, uses: int) -> int:
    """A token is at least one byte; pictures and pages are the exception. No prompt is longer than the context.

    After each of the `uses` of a web tool the model reads all once more, with what was found.
    """
    longest = _CONTEXT_TOKENS.get(base_model(model), _LARGEST_CONTEXT_TOKENS)
    if uses:
        return longest * (uses + 1)
    if "document" in sources:
        return longest
    return min(size_bytes + _HIDDEN_TOKENS + _IMAGE_TOKENS * sources.count("image"), longest)
