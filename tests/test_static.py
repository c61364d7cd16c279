"""The static files of the test client."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.core.handlers.asgi import ASGIHandler
from django.test import Client
from django.test.client import ClientHandler

from tests.static import StaticFiles

FILE = "dist/icons.svg"


@pytest.mark.django_db
def test_files_are_served_and_what_is_none_is_not_found(client: Client) -> None:
    answer = client.get(f"/static/{FILE}")
    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == str(Path(finders.find(FILE)).stat().st_size)
    assert answer.headers["Content-Type"] == "image/svg+xml"
    assert client.get("/static/dist/nothing.svg").status_code == 404


@pytest.mark.parametrize(
    ("load", "is_the_products"),
    [(ASGIHandler, True), (lambda: ClientHandler().load_middleware(), False)],
    ids=["a server", "the test client"],
)
def test_servers_in_tests_have_the_products(
    monkeypatch: pytest.MonkeyPatch, load: Callable[[], object], is_the_products: bool
) -> None:
    made: list[StaticFiles] = []
    begin = StaticFiles.__init__

    def begin_and_note(self: StaticFiles, get_response: Any) -> None:
        begin(self, get_response)
        made.append(self)

    monkeypatch.setattr(StaticFiles, "__init__", begin_and_note)
    load()
    assert [one._next is None for one in made] == [is_the_products]
