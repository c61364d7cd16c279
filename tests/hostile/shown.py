"""What agents wrote, shown to people: scripts in pages of the portal and the admin, and their product's preview."""

from collections.abc import Callable

import httpx
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from agents.models import Run
from demos.proxy import close_connections, preview_app
from tests.demos.making import make_project, ready_demo
from tests.demos.serving import served
from tests.factories import UserFactory

Address = Callable[[Run, Run], str]

PAGES: dict[str, tuple[str, Address]] = {
    # Of the run that was merged, and of the one that gave up and said why.
    "script-run": ("a tool result's script in the run's page", lambda done, _: reverse("run", args=[done.pk])),
    "script-file": (
        "a file's script in the page of files",
        lambda done, _: reverse("project_files", args=[done.project_id]) + "?path=README.md",
    ),
    "script-changes": (
        "a change's script in the page of changes",
        lambda done, _: reverse("project_changes", args=[done.project_id]) + f"?commit={done.base_commit}",
    ),
    "script-reason": ("a reason's script in the page of the run", lambda _, failed: reverse("run", args=[failed.pk])),
    "script-task": (
        "a reason's script in the page of the task",
        lambda _, failed: reverse("task", args=[failed.task_id]),
    ),
    "script-audit": (
        "a refusal's script in the audit log",
        lambda _, failed: reverse("project_audit", args=[failed.project_id]),
    ),
    "script-admin": (
        "a reason's script in the admin",
        lambda _, failed: reverse("admin:agents_run_change", args=[failed.pk]),
    ),
}
PREVIEWS = {
    "preview-cookie": "the portal's cookies, from whoever visits a preview",
    "preview-session": "a session of its own choice for the portal, by a cookie for the parent domain",
}
# A product that shows what it gets, and sets the portal's cookies where it can.
APP = """
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
class App(BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(self.headers).encode()
        self.send_response(200)
        self.send_header("Set-Cookie", "%s=stolen; Path=/; Domain=localhost")
        self.send_header("Set-Cookie", "basket=7; Path=/; Domain=localhost")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), App).serve_forever()
"""


def app() -> str:
    """The product's source."""
    return APP % settings.SESSION_COOKIE_NAME


def pages_of(done: Run, failed: Run) -> dict[str, str]:
    """The pages as an admin gets them."""
    client = Client()
    client.force_login(UserFactory(username="hostile-admin", is_superuser=True, is_staff=True))
    found = {}
    for name, (_, address) in PAGES.items():
        response = client.get(address(done, failed))
        found[name] = response.content.decode() if response.status_code == 200 else f"{response.status_code}"
    return found


def visit(address: str) -> tuple[httpx.Response, httpx.Response]:
    """Visit a product at its address: as it is, and as a demo's preview."""
    cookies = f"{settings.SESSION_COOKIE_NAME}=of-the-portal; {settings.CSRF_COOKIE_NAME}=of-the-portal; own=1"
    now = timezone.now()
    demo = ready_demo(make_project(now=now), address=address, now=now)
    host = demo.preview_url.removeprefix("http://").rstrip("/")
    with served(preview_app, at_end=close_connections) as proxy, httpx.Client(trust_env=False, timeout=20) as client:
        plain = client.get(f"http://{address}/", headers={"cookie": cookies})
        return plain, client.get(f"http://{proxy}/", headers={"host": host, "cookie": cookies})
