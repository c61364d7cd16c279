"""The rehearsal model with a witness: what it served is written down beside it, for comparison with the ledger.

`uvicorn tests.chaos.witness:app`, with CHAOS_SERVED naming the file. A line of JSON for each answer that used tokens.
"""

import json
import os
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agents.rehearsal.server import create_app


class Witness:
    """Looks at the answers of an application as they leave."""

    def __init__(self, application: ASGIApp, path: str) -> None:
        self._application = application
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and write down the usage of an answer, whether it left as a whole or not."""
        if scope["type"] != "http" or scope["path"] != "/v1/messages":
            await self._application(scope, receive, send)
            return
        body = bytearray()
        asked_bytes = 0
        is_whole = False

        async def hear() -> Message:
            nonlocal asked_bytes
            message = await receive()
            asked_bytes += len(message.get("body", b""))
            return message

        async def look(message: Message) -> None:
            nonlocal is_whole
            await send(message)
            if message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                is_whole = is_whole or not message.get("more_body", False)

        try:
            await self._application(scope, hear, look)
        finally:
            if usage := usage_of(bytes(body)):
                self._note({"usage": usage, "whole": is_whole, "asked_bytes": asked_bytes, "sent_bytes": len(body)})

    def _note(self, said: dict[str, Any]) -> None:
        line = json.dumps(said) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def usage_of(body: bytes) -> dict[str, int]:
    """Return the tokens that an answer says it used; empty for one that used none."""
    if not body.startswith((b"event:", b"data:", b":")):
        try:
            return _counts(json.loads(body).get("usage"))
        except (ValueError, AttributeError):
            return {}
    found: dict[str, int] = {}
    for line in body.split(b"\n"):
        if line.startswith(b"data:") and b'"usage"' in line:
            event = json.loads(line[5:])
            found |= _counts(event.get("usage") or event.get("message", {}).get("usage"))
    return found


def _counts(usage: Any) -> dict[str, int]:
    names = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return {name: usage[name] for name in names if usage.get(name) is not None} if usage else {}


app = Witness(create_app(), os.environ.get("CHAOS_SERVED", os.devnull))
