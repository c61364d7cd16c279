"""A project's client follows from the name that people type, on every way of writing it."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import RFC_4122

import pytest
from django.db import IntegrityError, connection, transaction

from projects.ids import new_id
from projects.models import Client, Project
from tests.factories import NOW, ProjectFactory

pytestmark = pytest.mark.django_db


def client_of(project: Project) -> Client | None:
    return Project.objects.select_related("client").get(pk=project.pk).client


def test_projects_of_one_name_share_a_client_whatever_its_case() -> None:
    first, second = ProjectFactory(client_name="Rowing club"), ProjectFactory(client_name="ROWING CLUB")

    assert client_of(first) == client_of(second) == Client.objects.get(name="Rowing club")


def test_client_has_a_key_that_sorts_by_time() -> None:
    before = new_id()
    for name in ("We", "They"):
        ProjectFactory(client_name=name)
    after = new_id()

    keys = list(Client.objects.values_list("pk", flat=True))
    assert [(key.version, key.variant) for key in keys] == [(7, RFC_4122)] * 2
    # The first 48 bits are milliseconds, by the server's clock, which is this machine's; rounded there, cut here.
    assert all(before.int >> 80 <= key.int >> 80 <= (after.int >> 80) + 1 for key in keys)


def test_project_without_a_client_has_none() -> None:
    assert client_of(ProjectFactory(client_name="")) is None


@pytest.mark.parametrize("write", ["update", "save", "bulk_update"])
def test_renaming_moves_the_project_to_the_other_client(write: str) -> None:
    project = ProjectFactory(client_name="We")
    project.client_name = "They"
    match write:
        case "update":
            Project.objects.update(client_name="They")
        case "save":
            project.save()
        case "bulk_update":
            Project.objects.bulk_update([project], ["client_name"])

    client = client_of(project)
    assert client is not None
    assert client.name == "They"
    Project.objects.update(client_name="")
    assert client_of(project) is None


def test_client_twice_is_refused() -> None:
    Client.objects.create(name="We", created_at=NOW)
    with pytest.raises(IntegrityError, match="client_name_once"), transaction.atomic():
        Client.objects.create(name="we", created_at=NOW)


@pytest.mark.django_db(transaction=True)
def test_two_that_name_a_new_client_at_once_get_the_same() -> None:
    start = Barrier(4)

    def create(number: int) -> Project:
        start.wait(timeout=30)
        try:
            return Project.objects.create(
                name=f"P{number}", client_name="New", description="x", budget_limit=1, created_at=NOW
            )
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        projects = list(pool.map(create, range(4)))

    assert {client_of(project) for project in projects} == {Client.objects.get()}
