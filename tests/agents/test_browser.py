"""The agents' browser, spoken to as the CLI does."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.browser import server

APP = """
import http.server, os, pathlib, urllib.parse
KEPT = pathlib.Path(os.environ["DATA_DIR"], "kept")
class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = KEPT.read_text() if KEPT.exists() else "nothing"
        page = f'<h1>Tools</h1><script>hidden()</script><p>Kept: {known}</p><a href="/new">Add</a>'
        page += '<form method="post" action="/new"><input type="hidden" name="token" value="t1"><input name="name">'
        page += '<select name="shelf"><option value="1">One<option value="2" selected>Two</select></form>'
        self.say(404 if self.path == "/gone" else 200, page)
    def do_POST(self):
        KEPT.write_text(self.rfile.read(int(self.headers["content-length"])).decode())
        self.send_response(303); self.send_header("location", "/"); self.end_headers()
    def say(self, status, page):
        self.send_response(status); self.send_header("content-type", "text/html"); self.end_headers()
        self.wfile.write(page.encode())
    def log_message(self, *_): pass
http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Pages).serve_forever()
"""


class Client:
    """The CLI's side."""

    def __init__(self, checkout: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", server.__file__],
            cwd=checkout,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, method: str, **params: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def call(self, name: str, **arguments: Any) -> str:
        result = self.ask("tools/call", name=name, arguments=arguments)["result"]
        return ("error: " if result["isError"] else "") + str(result["content"][0]["text"])


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "eklavya.toml").write_text('[commands]\nstart = "exec python3 app.py"\n')
    (tmp_path / "app.py").write_text(APP)
    made = Client(tmp_path)
    yield made
    made.process.communicate()


def test_it_offers_its_tools(client: Client) -> None:
    assert client.ask("initialize", protocolVersion="2025-06-18")["result"]["serverInfo"]["name"] == "browser"
    assert {tool["name"] for tool in client.ask("tools/list")["result"]["tools"]} == set(server.TOOLS)
    assert client.ask("resources/list")["error"]["code"] == -32601


def test_a_page_is_read_and_a_form_is_sent_with_what_it_holds(client: Client) -> None:
    assert client.call("start").startswith("The product runs")
    page = client.call("open", path="/")
    assert page.startswith("200 /\n\nTools\nKept: nothing")
    assert "links: /new" in page
    assert "hidden()" not in page
    sent = client.call("submit", form=0, values={"name": "Drill"})
    assert "Kept: token=t1&name=Drill&shelf=2" in sent


def test_data_outlive_a_new_start(client: Client) -> None:
    client.call("start")
    client.call("open", path="/")
    client.call("submit", form=0, values={"name": "Saw"})
    client.call("start")
    assert "name=Saw" in client.call("open", path="/")


@pytest.mark.parametrize("path", ["http://127.0.0.1:1/", "//example.com/", "file:///etc/passwd", "http://example.com"])
def test_it_stays_at_the_product(client: Client, path: str) -> None:
    client.call("start")
    assert "leads away" in client.call("open", path=path)


def test_what_goes_wrong_is_said(client: Client, tmp_path: Path) -> None:
    assert "call start first" in client.call("open", path="/")
    client.call("start")
    assert client.call("open", path="/gone").startswith("404 /gone")
    assert "has 1 forms" in client.call("submit", form=3, values={})
    assert client.call("nothing").startswith("error: ")
    (tmp_path / "eklavya.toml").write_text('[commands]\nstart = "echo broken; exit 3"\n')
    assert "broken" in client.call("start")
