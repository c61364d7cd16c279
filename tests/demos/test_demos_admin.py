"""Django's admin calls the lifecycle and nothing else."""

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from demos.models import Demo
from demos.states import DemoStatus
from projects.models import AuditLog
from tests.demos.making import again, make_project, ready_demo

pytestmark = pytest.mark.django_db
LIST = "admin:demos_demo_changelist"


@pytest.fixture
def demo() -> Demo:
    return ready_demo(make_project(now=timezone.now()), now=timezone.now())


def do(client: Client, demo: Demo, action: str) -> str:
    answer = client.post(reverse(LIST), {"action": action, "_selected_action": [str(demo.pk)]}, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_list_is_searched_and_filtered_and_shows_no_token(admin_client: Client, demo: Demo) -> None:
    page = admin_client.get(reverse(LIST), {"q": demo.project.name[:5], "status": "ready"}).content.decode()

    assert demo.project.name in page
    assert demo.token not in page


def test_a_demo_is_shown_but_not_changed(admin_client: Client, demo: Demo) -> None:
    url = reverse("admin:demos_demo_change", args=[demo.pk])

    assert "It sells." in admin_client.get(url).content.decode()
    assert admin_client.post(url, {"status": "approved"}).status_code == 403
    assert again(demo).status == DemoStatus.READY


@pytest.mark.parametrize("view", ["add", "delete"])
def test_rows_are_neither_made_nor_deleted(admin_client: Client, demo: Demo, view: str) -> None:
    arguments = [demo.pk] if view == "delete" else []

    assert admin_client.get(reverse(f"admin:demos_demo_{view}", args=arguments)).status_code == 403


def test_revoke(admin_client: Client, demo: Demo) -> None:
    assert "Done for 1." in do(admin_client, demo, "revoke")

    assert again(demo).revoked_at is not None
    assert AuditLog.objects.get(action="demo.revoked").actor_name == "admin"


def test_readdress(admin_client: Client, demo: Demo) -> None:
    old = demo.token

    do(admin_client, demo, "readdress")

    assert again(demo).token != old


def test_expire(admin_client: Client, demo: Demo) -> None:
    do(admin_client, demo, "expire")

    assert (again(demo).status, demo.reason) == (DemoStatus.EXPIRED, "closed")


def test_extend(admin_client: Client, demo: Demo) -> None:
    before = demo.expires_at

    do(admin_client, demo, "extend")

    assert (again(demo).expires_at - before).days == 7


def test_a_refusal_is_said_and_the_others_go_on(admin_client: Client, demo: Demo) -> None:
    do(admin_client, demo, "revoke")
    other = ready_demo(make_project(now=timezone.now()), now=timezone.now())

    page = admin_client.post(
        reverse(LIST), {"action": "extend", "_selected_action": [str(demo.pk), str(other.pk)]}, follow=True
    ).content.decode()

    assert "Give it a new one first" in page
    assert "Done for 1." in page


def test_who_may_only_look_is_offered_no_action(client: Client, demo: Demo) -> None:
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_demo"))
    client.force_login(viewer)

    do(client, demo, "revoke")

    assert again(demo).revoked_at is None
