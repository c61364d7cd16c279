"""The demos of a project."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from demos.models import Demo
from demos.states import DemoStatus
from projects.states import ApprovalKind, ProjectStatus
from tests.factories import ApprovalFactory, DemoFactory, ProjectFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin_in(client: Client) -> Client:
    client.force_login(UserFactory(username="asha", is_superuser=True))
    return client


def open_demo(**fields: object) -> Demo:
    return DemoFactory(expires_at=timezone.now() + timedelta(days=1), **fields)


def page_of(client: Client, shown: Demo, **query: str) -> str:
    return client.get(reverse("project_demos", args=[shown.project_id]), query).content.decode()


def test_demos_says_what_comes_first(admin_in: Client) -> None:
    page = admin_in.get(reverse("project_demos", args=[ProjectFactory().pk])).content.decode()

    assert "No demo yet" in page


def test_a_ready_demo_opens_on_its_own_origin_in_a_sandbox(admin_in: Client) -> None:
    demo = open_demo()

    page = page_of(admin_in, demo)

    assert f'src="{demo.preview_url}"' in page
    assert 'sandbox="allow-scripts' in page
    assert "allow-top-navigation" not in page


def test_a_demo_that_starts_says_so(admin_in: Client) -> None:
    assert "The preview is starting" in page_of(admin_in, open_demo(status=DemoStatus.BUILDING))


@pytest.mark.parametrize(
    "fields",
    [
        {"status": DemoStatus.EXPIRED},
        {"status": DemoStatus.REJECTED},
        {"revoked_at": timezone.now()},
        {"expires_at": timezone.now() - timedelta(seconds=1)},
    ],
)
def test_a_closed_demo_is_not_framed(admin_in: Client, fields: dict[str, object]) -> None:
    demo = DemoFactory(**({"expires_at": timezone.now() + timedelta(days=1)} | fields))

    page = page_of(admin_in, demo)

    assert "<iframe" not in page
    assert "This preview is closed" in page


def test_a_demo_is_decided_beside_its_preview(admin_in: Client) -> None:
    demo = open_demo()
    asked = ApprovalFactory(project=demo.project, kind=ApprovalKind.DEMO, subject_id=demo.pk)

    page = page_of(admin_in, demo)

    assert f'action="{reverse("approval", args=[asked.pk])}"' in page
    assert "Approve demo 1" in page


def test_an_earlier_demo_can_be_looked_at(admin_in: Client) -> None:
    project = ProjectFactory(status=ProjectStatus.DEMO)
    first = open_demo(project=project, status=DemoStatus.CHANGES_REQUESTED, summary="The first try.")
    open_demo(project=project, summary="The second try.")

    assert "The second try." in page_of(admin_in, first)
    assert "The first try." in page_of(admin_in, first, demo="1")
