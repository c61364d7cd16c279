"""What a production set-up is held to."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.test import Client

from eklavya.bodies import MAX_BODY_BYTES, LimitedBodies
from eklavya.env import BASE_DIR

PROBE = """
from django.conf import settings as s
print(s.SESSION_COOKIE_NAME, s.CSRF_COOKIE_NAME, s.SESSION_COOKIE_SAMESITE, s.CSRF_COOKIE_SAMESITE)
print(s.CSRF_TRUSTED_ORIGINS)
"""


def manage(tmp_path: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run manage.py with the product's settings, as a server would have them."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("EKLAVYA_", "DJANGO_", "DATABASE_"))
    }
    kept |= {"EKLAVYA_ENV_FILE": "", "EKLAVYA_VAR": str(tmp_path), "PYTHONWARNINGS": "ignore", **environment}
    arguments = [sys.executable, "manage.py", *command]
    return subprocess.run(arguments, cwd=BASE_DIR, env=kept, capture_output=True, text=True, check=False)


def test_check_deploy_is_clean_in_production(tmp_path: Path) -> None:
    found = manage(
        tmp_path, "check", "--deploy", "--fail-level", "WARNING", EKLAVYA_PUBLIC_URL="https://eklavya.example.org"
    )

    assert found.returncode == 0, found.stderr
    assert "no issues" in found.stdout


def test_check_deploy_warns_of_what_is_left_open(tmp_path: Path) -> None:
    found = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING", EKLAVYA_DEBUG="true")

    assert found.returncode == 1
    for warning in ("W004", "W008", "W012", "W016", "W018"):
        assert f"security.{warning}" in found.stderr


def test_cookies_belong_to_the_host_alone(tmp_path: Path) -> None:
    found = manage(tmp_path, "shell", "-v0", "-c", PROBE, EKLAVYA_PUBLIC_URL="https://eklavya.example.org")

    expected = "__Host-eklavya_session __Host-csrftoken Lax Lax\n['https://eklavya.example.org']"
    assert found.stdout.strip() == expected, found.stderr


@pytest.mark.django_db
def test_production_sends_everybody_to_tls_but_the_health_check(client: Client, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    settings.SECURE_HSTS_SECONDS = 60

    assert client.get("/login/")["Location"] == "https://testserver/login/"
    assert client.get("/healthz").status_code == 200
    assert client.get("/login/", secure=True)["Strict-Transport-Security"] == "max-age=60; includeSubDomains"


@pytest.mark.django_db
def test_answers_say_how_browsers_should_take_them(client: Client) -> None:
    answer = client.get("/login/")

    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "no-store" in answer["Cache-Control"]
    for directive in answer["Content-Security-Policy"].split(";"):
        assert "unsafe" not in directive
        assert "*" not in directive or directive.strip().startswith("frame-src")
    cookie = answer.cookies["csrftoken"]
    assert (cookie["samesite"], cookie["httponly"]) == ("Lax", True)


# -- bodies


async def swallow(scope: Any, receive: Any, send: Any) -> None:
    """An application that reads everything and says how much it was."""
    taken, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        taken += len(message["body"])
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(taken).encode()})


async def sent(chunks: list[bytes], length: bytes | None = None) -> int:
    headers = [] if length is None else [(b"content-length", length)]
    portal = ApplicationCommunicator(LimitedBodies(swallow), {"type": "http", "headers": headers})
    for number, chunk in enumerate(chunks, 1):
        await portal.send_input({"type": "http.request", "body": chunk, "more_body": number < len(chunks)})
    answer = await portal.receive_output(60)
    return int(answer["status"])


async def test_body_is_limited_whether_its_length_was_declared_or_not() -> None:
    piece = b"x" * (MAX_BODY_BYTES // 4)

    assert await sent([piece] * 4) == 200
    assert await sent([piece] * 4, str(MAX_BODY_BYTES).encode()) == 200
    assert await sent([piece] * 5) == 413
    assert await sent([b""], str(MAX_BODY_BYTES + 1).encode()) == 413
    for nonsense in (b"-1", b"1e9", b"x", b""):
        assert await sent([b""], nonsense) == 413


@pytest.mark.django_db
def test_form_that_is_too_large_is_refused(client: Client) -> None:
    large = "login=" + "x" * settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    assert client.post("/login/", large, "application/x-www-form-urlencoded").status_code == 400
    many = "&".join(f"a{number}=1" for number in range(600))
    assert client.post("/login/", many, "application/x-www-form-urlencoded").status_code == 400
