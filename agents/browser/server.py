"""A plain browser for agents that may use the product but have no terminal: it starts the product and walks its pages.

    python3 -I server.py        in the checkout; speaks MCP on stdin and stdout (https://modelcontextprotocol.io)

Runs inside the sandbox, with no more rights than anything there, so nothing is decided here. Only the standard library
of the sandbox's Python and nothing of Eklavya: the file is mounted by itself. No JavaScript: pages are read as text,
links and forms. Pages of the product alone; what lies elsewhere is asked for with the CLI's WebFetch.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

START_S = 20.0
_MAX_BYTES = 2_000_000
_MAX_TEXT = 20_000
_SILENT = frozenset({"script", "style", "template"})
_FIELDS = frozenset({"input", "select", "textarea", "button"})


class Refused(Exception):
    """What was asked cannot be done; the sentence is for the agent."""


class PageReader(HTMLParser):
    """The text, links and forms of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.links: list[str] = []
        self.forms: list[dict[str, Any]] = []
        self._silent = 0
        self._selected: dict[str, str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take in a tag."""
        given = {name: value or "" for name, value in attrs}
        self._silent += tag in _SILENT
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "form":
            method = given.get("method", "get").lower()
            self.forms.append({"action": given.get("action", ""), "method": method, "fields": {}})
        elif tag in _FIELDS and self.forms and given.get("name"):
            self.forms[-1]["fields"][given["name"]] = given.get("value", "")
            self._selected = {"name": given["name"]} if tag == "select" else None
        elif tag == "option" and self._selected and ("selected" in given or "seen" not in self._selected):
            self.forms[-1]["fields"][self._selected["name"]] = given.get("value", "")
            self._selected["seen"] = "1"

    def handle_endtag(self, tag: str) -> None:
        """Leave what is not shown."""
        self._silent -= tag in _SILENT and self._silent > 0

    def handle_data(self, data: str) -> None:
        """Keep what a person would see."""
        if not self._silent and data.strip():
            self.text.append(" ".join(data.split()))


class Browser:
    """The product, once it is started, and the page that was seen last."""

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout
        self._data = tempfile.mkdtemp(prefix="data-")
        self._process: subprocess.Popen[bytes] | None = None
        self._base = ""
        self._at = "/"
        self._forms: list[dict[str, Any]] = []
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(CookieJar())
        )

    def start(self) -> str:
        """Start the product as eklavya.toml says, or start it again with the data it has."""
        self.stop()
        command, health = self._manifest()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        env = {**os.environ, "HOST": "127.0.0.1", "PORT": str(port), "DATA_DIR": self._data}
        log = Path(self._data).with_suffix(".log")
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                cwd=self._checkout,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._base = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self._fetch(health)
                return f"The product runs; {health} answered."
            except (OSError, Refused):
                time.sleep(0.1)
        said = log.read_text(errors="replace")[-2000:]
        self.stop()
        raise Refused(f"The product did not answer at {health} within {START_S:g} s. It said:\n{said}")

    def open(self, path: str) -> str:
        """Open a page by its path."""
        return self._show(*self._fetch(path))

    def submit(self, form: int, values: dict[str, str]) -> str:
        """Send a form of the page that was seen last: its own values with these in their place."""
        if not 0 <= form < len(self._forms):
            raise Refused(f"The page at {self._at} has {len(self._forms)} forms, numbered from 0.")
        of = self._forms[form]
        data = urllib.parse.urlencode({**of["fields"], **values})
        target = urllib.parse.urljoin(self._at, of["action"] or self._at)
        if of["method"] == "post":
            return self._show(*self._fetch(target, data.encode()))
        return self._show(*self._fetch(f"{target.split('?')[0]}?{data}"))

    def stop(self) -> str:
        """End the product."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None
        return "The product is stopped."

    def _manifest(self) -> tuple[str, str]:
        try:
            read = tomllib.loads((self._checkout / "eklavya.toml").read_text())
            return str(read["commands"]["start"]), str(read.get("health", {}).get("path", "/"))
        except (OSError, KeyError, ValueError) as error:
            raise Refused(f"eklavya.toml names no start command: {error}") from error

    def _fetch(self, path: str, data: bytes | None = None) -> tuple[int, str, str, str]:
        if self._process is None:
            raise Refused("The product does not run: call start first.")
        url = urllib.parse.urljoin(self._base, path)
        if not url.startswith(f"{self._base}/") and url != self._base:
            raise Refused(f"{path} leads away from the product.")
        try:
            with self._opener.open(url, data, timeout=START_S) as answer:
                return self._read(answer)
        except urllib.error.HTTPError as error:
            with error:
                return self._read(error)

    def _read(self, answer: Any) -> tuple[int, str, str, str]:
        url = urllib.parse.urlsplit(answer.url)
        body = answer.read(_MAX_BYTES).decode(errors="replace")
        where = f"{url.path}?{url.query}" if url.query else url.path
        return answer.status, where or "/", answer.headers.get("content-type", ""), body

    def _show(self, status: int, where: str, kind: str, body: str) -> str:
        self._at, self._forms = where, []
        if "html" not in kind:
            return f"{status} {where} ({kind})\n\n{body[:_MAX_TEXT]}"
        page = PageReader()
        page.feed(body)
        self._forms = page.forms
        forms = [f"form {number}: {json.dumps(of, ensure_ascii=False)}" for number, of in enumerate(page.forms)]
        text = "\n".join(page.text)[:_MAX_TEXT]
        return "\n\n".join([f"{status} {where}", text, "links: " + " ".join(dict.fromkeys(page.links)), *forms])


_PATH = {"path": {"type": "string", "description": 'A path of the product, such as "/tools/new".'}}
_FORM = {
    "form": {"type": "integer", "description": "Its number on the page, from 0."},
    "values": {"type": "object", "additionalProperties": {"type": "string"}, "description": "By name of the field."},
}
TOOLS: dict[str, tuple[str, dict[str, Any]]] = {
    "start": ("Start the product, or start it again with the data it has.", {}),
    "open": ("Open a page of the product and read it: text, links, forms.", _PATH),
    "submit": ("Fill in and send a form of the page that you saw last.", _FORM),
    "stop": ("End the product.", {}),
}


def answer(browser: Browser, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """Return the result of an MCP request; None for a method that is not known."""
    match method:
        case "initialize":
            info = {"name": "browser", "version": "1"}
            version = params.get("protocolVersion", "2025-06-18")
            return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        case "ping":
            return {}
        case "tools/list":
            return {"tools": [_described(name) for name in TOOLS]}
        case "tools/call":
            return _call(browser, str(params.get("name")), params.get("arguments") or {})
    return None


def _described(name: str) -> dict[str, Any]:
    about, properties = TOOLS[name]
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"name": name, "description": about, "inputSchema": schema}


def _call(browser: Browser, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        if name not in TOOLS:
            raise Refused(f"There is no tool {name}.")
        text, failed = getattr(browser, name)(**arguments), False
    except (Refused, OSError, TypeError, ValueError) as error:
        text, failed = f"That did not work: {error}", True
    return {"content": [{"type": "text", "text": text}], "isError": failed}


def main() -> None:
    """Serve until stdin ends."""
    browser = Browser(Path.cwd())
    try:
        for line in sys.stdin:
            request = json.loads(line)
            if "id" not in request:
                continue  # a notification
            result = answer(browser, request.get("method", ""), request.get("params") or {})
            unknown = {"error": {"code": -32601, "message": "There is no such method."}}
            body = unknown if result is None else {"result": result}
            sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], **body}) + "\n")
            sys.stdout.flush()
    finally:
        browser.stop()


if __name__ == "__main__":
    main()
