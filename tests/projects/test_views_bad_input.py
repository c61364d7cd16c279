"""What people paste and mistype, through the real form: refused beside the field, kept as typed, nothing made."""

import html
import re
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from projects.models import AuditLog, Project
from projects.states import ProjectStatus
from tests.factories import ApprovalFactory, PlanFactory, ProjectFactory, UserFactory

pytestmark = pytest.mark.django_db
BRIEF = "A page where our members book the boat."
SCRIPT = "<script>alert(1)</script>"
LONG = "A shop for tea. " * 65_536
REFUSED = {
    "empty": ("", "This field is required."),
    "spaces": (" \n\t ", "The brief is empty."),
    "no word in it": ("?! … --", "The brief is empty."),
    "one megabyte": (LONG, "Shorten it"),
    "a binary file": ("PK\x03\x04\x14\x00\x00\x08\x00", "Null characters"),
    "control characters": ("\x1b\x01\x02\x03 a shop", "This looks like a binary file."),
}
TAKEN = {
    "markup": f"{SCRIPT}<img src=x onerror=alert(1)> We sell tea to members.",
    "right to left": "נחוץ לנו דף שבו חברים מזמינים סירות \u202e ליום",
    "arabic": "نحتاج إلى صفحة يحجز فيها الأعضاء القوارب",
    "emoji": "🛶👩‍👩‍👧 A page where families book boats 🎉",
    "half of an emoji": "A page to book boats \ud83d today",
    "template code": "{{ settings.SECRET_KEY }} {% include 'x' %} A page to book boats.",
}
NAMES = [
    "../../etc/passwd",
    "'; DROP TABLE projects_project; --",
    '"><svg onload=alert(1)>',
    "🛶 Bootshaus",
    "a\u202eb",
]


@pytest.fixture
def admin_in(client: Client) -> Client:
    client.force_login(UserFactory(username="asha", is_superuser=True))
    return client


def field(page: str, name: str) -> str:
    """The text in a field, as the browser would show it."""
    found = re.search(rf'<textarea[^>]*name="{name}"[^>]*>\n?(.*?)</textarea>', page, re.DOTALL)
    found = found or re.search(rf'<input[^>]*name="{name}"[^>]*?value="([^"]*)"', page)
    return html.unescape(found[1]) if found else ""


def error(page: str) -> str:
    """The sentence beside the field."""
    found = re.search(r"field__error.*?<span>(.*?)</span>", page, re.DOTALL)
    return html.unescape(found[1]) if found else ""


@pytest.mark.parametrize("case", REFUSED)
def test_an_unusable_brief_is_refused_beside_the_field(admin_in: Client, case: str) -> None:
    brief, said = REFUSED[case]

    response = admin_in.post(reverse("project_new"), {"brief": brief, "name": "Boat house", "budget_limit": "5"})

    page = response.content.decode()
    assert response.status_code == 422
    assert said in error(page)
    assert (field(page, "name"), field(page, "budget_limit")) == ("Boat house", "5")
    assert not Project.objects.exists()
    row = AuditLog.objects.get(action="brief.refused")
    assert said in row.details["reason"]
    assert row.details["characters"] == len(brief)


def test_a_megabyte_in_any_script_is_refused_beside_the_field(admin_in: Client) -> None:
    """As browsers send the form: each byte that is not ASCII as three."""
    body = urlencode({"brief": "نحتاج إلى صفحة " * 36_000})
    assert len(body) > 2_500_000

    response = admin_in.post(reverse("project_new"), body, content_type="application/x-www-form-urlencoded")

    assert response.status_code == 422
    assert "Shorten it" in error(response.content.decode())


@pytest.mark.parametrize("case", ["one megabyte", "control characters"])
def test_a_refused_brief_stays_as_it_was_typed(admin_in: Client, case: str) -> None:
    brief, _ = REFUSED[case]

    page = admin_in.post(reverse("project_new"), {"brief": brief}).content.decode()

    assert field(page, "brief") == brief


def test_a_brief_beyond_what_the_server_reads_is_refused_in_words(admin_in: Client) -> None:
    brief = "x" * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)

    response = admin_in.post(reverse("project_new"), {"brief": brief})

    assert response.status_code in {400, 413}
    assert not Project.objects.exists()


@pytest.mark.parametrize("case", TAKEN)
def test_a_strange_brief_is_taken_and_shown_as_text(admin_in: Client, case: str) -> None:
    body = "brief=" + "".join(f"%{byte:02x}" for byte in TAKEN[case].encode("utf-8", "surrogatepass"))

    response = admin_in.post(
        reverse("project_new"), body, content_type="application/x-www-form-urlencoded", follow=True
    )

    page = response.content.decode()
    assert response.status_code == 200
    assert Project.objects.count() == 1
    assert SCRIPT not in page
    assert "onerror=alert" not in re.sub(r"&lt;.*?&gt;", "", page)
    assert settings.SECRET_KEY not in page


@pytest.mark.parametrize("name", NAMES)
def test_a_strange_name_is_a_name_everywhere(admin_in: Client, name: str) -> None:
    admin_in.post(reverse("project_new"), {"brief": BRIEF, "name": name, "client_name": name})

    project = Project.objects.get()
    for tab in ("project", "project_board", "project_money", "project_files", "project_audit"):
        response = admin_in.get(reverse(tab, args=[project.pk]))
        assert response.status_code == 200
        assert "<svg onload" not in response.content.decode()
    download = admin_in.get(reverse("project_download", args=[project.pk]))
    assert download.status_code == 404
    assert "\u202e" not in project.name


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "n" * 300}, "at most 255 characters"),
        ({"client_name": "c" * 300}, "at most 255 characters"),
        ({"budget_limit": "-1"}, "greater than or equal to 0"),
        ({"budget_limit": "NaN"}, "Enter a number."),
        ({"budget_limit": "1e99"}, "Ensure that there are no more than"),
        ({"budget_limit": "five"}, "Enter a number."),
    ],
)
def test_a_wrong_detail_is_refused_beside_its_field(admin_in: Client, values: dict[str, str], said: str) -> None:
    response = admin_in.post(reverse("project_new"), {"brief": BRIEF} | values)

    page = response.content.decode()
    assert response.status_code == 422
    assert said in error(page)
    assert '<details class="fold composer__more" open' in page
    assert field(page, "brief") == BRIEF
    ((name, value),) = values.items()
    assert field(page, name) == value
    assert not Project.objects.exists()


@pytest.mark.parametrize("body", ["", "   ", "x" * 20_001])
def test_an_unusable_message_is_refused_beside_the_field(admin_in: Client, body: str) -> None:
    project = ProjectFactory()

    response = admin_in.post(reverse("project_say", args=[project.pk]), {"body": body})

    page = response.content.decode()
    assert response.status_code == 422
    assert error(page)
    assert field(page, "body") == body
    assert not project.chat.exists()


def test_a_comment_that_is_too_long_is_refused_and_kept(admin_in: Client) -> None:
    project = ProjectFactory()
    asked = ApprovalFactory(project=project, subject_id=PlanFactory(project=project).pk)
    comment = "y" * 20_001

    response = admin_in.post(reverse("approval", args=[asked.pk]), {"option": "amend", "comment": comment})

    page = response.content.decode()
    assert response.status_code == 422
    assert "20,000 characters" in page
    assert field(page, "comment") == comment


@pytest.mark.parametrize("limit", ["", "x", "-5", "NaN", "Infinity", "1" * 40])
def test_a_limit_that_is_none_changes_nothing(admin_in: Client, limit: str) -> None:
    project = ProjectFactory()
    before = project.budget_limit

    response = admin_in.post(reverse("project_limit", args=[project.pk]), {"limit": limit}, follow=True)

    project.refresh_from_db()
    assert response.status_code == 200
    assert 'data-tone="bad"' in response.content.decode()
    assert project.budget_limit == before


@pytest.mark.parametrize(
    "query",
    [
        "before=%00",
        "actor=%00",
        "action=%00",
        "before=1~2~3",
        "q=%00",
        "show=%ff",
        "q=%27%22%3E",
        "version=999999999999",
    ],
)
def test_an_address_that_was_played_with_breaks_nothing(admin_in: Client, query: str) -> None:
    project = ProjectFactory(status=ProjectStatus.BUILDING)

    for name in ("projects", "approvals", "audit"):
        assert admin_in.get(f"{reverse(name)}?{query}").status_code in {200, 404}
    for name in ("project", "project_plan", "project_runs", "project_money", "project_audit", "project_demos"):
        assert admin_in.get(f"{reverse(name, args=[project.pk])}?{query}").status_code in {200, 404}
