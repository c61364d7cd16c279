"""The demos of a project."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from demos.models import Demo
from demos.states import DemoStatus
from projects.models import AuditLog
from projects.states import ApprovalKind, ApprovalStatus, ProjectStatus
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

    assert f'action="{reverse("demo_decide", args=[demo.project_id, 1])}"' in page
    assert "Approve demo 1" in page
    admin_in.post(reverse("demo_decide", args=[demo.project_id, 1]), {"option": "amend", "comment": "Blue."})
    asked.refresh_from_db()
    assert (asked.status, asked.comment) == (ApprovalStatus.AMENDED, "Blue.")


def test_a_change_without_a_word_is_refused_beside_the_preview(admin_in: Client) -> None:
    demo = open_demo()
    ApprovalFactory(project=demo.project, kind=ApprovalKind.DEMO, subject_id=demo.pk)

    response = admin_in.post(reverse("demo_decide", args=[demo.project_id, 1]), {"option": "amend", "comment": " \n"})

    page = response.content.decode()
    assert response.status_code == 422
    assert demo.preview_url in page
    assert "needs a comment" in page[page.index('aria-invalid="true"') :]
    assert "eklavya:change from:body" not in page


def test_who_decides_a_demo_second_learns_who_was_first(admin_in: Client) -> None:
    demo = open_demo()
    ApprovalFactory(
        project=demo.project,
        kind=ApprovalKind.DEMO,
        subject_id=demo.pk,
        status=ApprovalStatus.APPROVED,
        decided_by=UserFactory(username="ben"),
    )

    response = admin_in.post(reverse("demo_decide", args=[demo.project_id, 1]), {"option": "approve"})

    assert response.status_code == 409
    assert b"ben already decided: approved." in response.content


def test_a_demo_of_which_nothing_was_asked_is_not_decided(admin_in: Client) -> None:
    demo = open_demo()

    assert admin_in.post(reverse("demo_decide", args=[demo.project_id, 1])).status_code == 404


def test_an_earlier_demo_can_be_looked_at(admin_in: Client) -> None:
    project = ProjectFactory(status=ProjectStatus.DEMO)
    first = open_demo(project=project, status=DemoStatus.CHANGES_REQUESTED, summary="The first try.")
    open_demo(project=project, summary="The second try.")

    assert "The second try." in page_of(admin_in, first)
    assert "The first try." in page_of(admin_in, first, demo="1")


@pytest.mark.parametrize("status", [DemoStatus.CHANGES_REQUESTED, DemoStatus.REJECTED, DemoStatus.APPROVED])
def test_a_decided_demo_stays_open_beside_the_next(admin_in: Client, status: DemoStatus) -> None:
    fields = {"approved_at": timezone.now()} if status == DemoStatus.APPROVED else {}

    assert "<iframe" in page_of(admin_in, open_demo(status=status, **fields))


def test_a_demo_of_a_cancelled_project_is_not_framed(admin_in: Client) -> None:
    assert "<iframe" not in page_of(admin_in, open_demo(project=ProjectFactory(status=ProjectStatus.CANCELLED)))


def send(client: Client, shown: Demo, verb: str, **data: object) -> int:
    return client.post(reverse(f"demo_{verb}", args=[shown.project_id, shown.demo_number]), data).status_code


def test_a_demo_is_shown_for_longer(admin_in: Client) -> None:
    demo = open_demo()
    before = demo.expires_at

    send(admin_in, demo, "extend", days=7)

    demo.refresh_from_db()
    assert demo.expires_at == before + timedelta(days=7)
    assert AuditLog.objects.filter(action="demo.extended", actor_name="asha").exists()


def test_an_expired_demo_opens_again(admin_in: Client) -> None:
    project = ProjectFactory(status=ProjectStatus.DEMO)
    demo = DemoFactory(project=project, status=DemoStatus.EXPIRED, expires_at=timezone.now() - timedelta(hours=1))

    send(admin_in, demo, "extend", days=1)

    demo.refresh_from_db()
    assert demo.status == DemoStatus.BUILDING


@pytest.mark.parametrize("days", ["", "0", "-1", "91", "soon", "9" * 30])
def test_days_that_are_none_change_nothing(admin_in: Client, days: str) -> None:
    demo = open_demo()
    before = demo.expires_at

    response = admin_in.post(reverse("demo_extend", args=[demo.project_id, 1]), {"days": days}, follow=True)

    demo.refresh_from_db()
    assert "Say by how many days, 1 to 90." in response.content.decode()
    assert demo.expires_at == before


def test_an_address_is_closed_and_replaced_by_a_new_one(admin_in: Client) -> None:
    demo = open_demo()
    old = demo.preview_url

    send(admin_in, demo, "close")
    closed = page_of(admin_in, demo)
    send(admin_in, demo, "readdress")

    demo.refresh_from_db()
    assert "<iframe" not in closed
    assert "Its address was closed." in closed
    assert demo.preview_url not in {old, ""}
    assert f'src="{demo.preview_url}"' in page_of(admin_in, demo)


def test_a_closed_address_is_not_closed_again(admin_in: Client) -> None:
    demo = open_demo(revoked_at=timezone.now())

    response = admin_in.post(reverse("demo_close", args=[demo.project_id, 1]), follow=True)

    assert "closed already" in response.content.decode()


def test_feedback_is_kept_without_deciding(admin_in: Client) -> None:
    demo = open_demo()

    send(admin_in, demo, "remark", remark="The <b>button</b> is too small.")

    demo.refresh_from_db()
    assert demo.status == DemoStatus.READY
    assert demo.remarks.get().user.username == "asha"
    assert "The &lt;b&gt;button&lt;/b&gt; is too small." in page_of(admin_in, demo)


def test_empty_feedback_is_refused_where_it_was_typed(admin_in: Client) -> None:
    demo = open_demo()

    response = admin_in.post(reverse("demo_remark", args=[demo.project_id, 1]), {"remark": "  "})

    assert response.status_code == 422
    assert "field__error" in response.content.decode()
    assert not demo.remarks.exists()


@pytest.mark.parametrize("verb", ["extend", "close", "readdress", "remark"])
def test_a_demo_that_is_none_is_not_found(admin_in: Client, verb: str) -> None:
    demo = open_demo()

    assert admin_in.post(reverse(f"demo_{verb}", args=[demo.project_id, 7])).status_code == 404
    assert admin_in.get(reverse(f"demo_{verb}", args=[demo.project_id, 1])).status_code == 405


def test_the_preview_stands_beside_its_question_in_the_inbox(admin_in: Client) -> None:
    demo = open_demo()
    asked = ApprovalFactory(project=demo.project, kind=ApprovalKind.DEMO, subject_id=demo.pk)

    page = admin_in.get(reverse("approval", args=[asked.pk])).content.decode()

    assert f'src="{demo.preview_url}"' in page


def test_the_overview_shows_the_newest_demo_small(admin_in: Client) -> None:
    demo = open_demo()

    page = admin_in.get(reverse("project", args=[demo.project_id])).content.decode()

    assert f'src="{demo.preview_url}"' in page
    assert "thumb__frame" in page
