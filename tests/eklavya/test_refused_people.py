"""What people are refused in the portal and in the admin: a row a minute for each kind and person, never contents."""

from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts.roles import AccountRole
from projects.models import AuditLog, Secret
from tests.accounts.making import person
from tests.factories import BudgetFactory, ProjectFactory, WorkerFactory

pytestmark = pytest.mark.django_db
CONTENTS = "sk-what-was-typed"


@pytest.fixture(autouse=True)
def _nothing_was_recorded() -> None:
    cache.clear()


def by(role: AccountRole) -> Client:
    client = Client()
    client.force_login(person(role))
    return client


def rows() -> list[dict[str, Any]]:
    found = AuditLog.objects.filter(action="request.refused").order_by("timestamp", "seq")
    assert all(row.actor_kind == "person" for row in found)
    assert CONTENTS not in str(list(found.values()))
    return [row.details for row in found]


def test_what_an_action_refuses_is_recorded_once_a_minute() -> None:
    worker, admin = WorkerFactory(status="online"), by(AccountRole.ADMIN)
    address = reverse("worker_forget", args=[worker.pk])

    for _ in range(3):
        assert admin.post(address).status_code == 302

    row = {"request": "POST worker_forget", "code": "WorkerInUse", "why": "WorkerInUse", "worker_id": str(worker.pk)}
    assert rows() == [row | {"requests": 1}]


def test_of_a_form_the_fields_and_the_rules_are_recorded() -> None:
    admin = by(AccountRole.ADMIN)

    assert admin.post(reverse("recovery_caps"), {"per_task": CONTENTS}).status_code == 422
    assert admin.post(reverse("specialisation_new"), {"name": CONTENTS}).status_code == 422
    assert admin.post(reverse("project_new"), {"brief": "A shop.", "budget_limit": CONTENTS}).status_code == 422

    assert {row["request"]: row["code"] for row in rows()} == {
        "POST recovery_caps": "invalid_form",
        "POST specialisation_new": "invalid_form",
        "POST project_new": "invalid_form",
    }
    assert [row["why"] for row in rows() if "project_new" in row["request"]] == [{"budget_limit": ["invalid"]}]


def test_a_limit_a_decision_and_a_file_that_cannot_be_used_are_recorded() -> None:
    project = ProjectFactory()
    budget = BudgetFactory(scope="project", project=project, scope_id=project.pk)
    admin = by(AccountRole.ADMIN)

    admin.post(reverse("budget_limit", args=[budget.pk]), {"limit": CONTENTS})
    admin.post(reverse("project_executions", args=[project.pk]), {"file": CONTENTS})
    admin.post(reverse("project_resume", args=[project.pk]))

    assert [(row["request"], row["code"]) for row in rows()] == [
        ("POST budget_limit", "InvalidLimit"),
        ("POST project_executions", "invalid_form"),
        ("POST project_resume", "ProjectNotActive"),
    ]


def test_who_may_not_is_recorded_too_and_who_only_looks_is_not() -> None:
    worker, viewer = WorkerFactory(), by(AccountRole.VIEWER)

    assert viewer.post(reverse("worker_drain", args=[worker.pk])).status_code == 403
    assert viewer.get(reverse("webhooks")).status_code == 403

    assert [(row["request"], row["code"]) for row in rows()] == [("POST worker_drain", "NotAllowed")]


def test_in_the_admin_as_well() -> None:
    project = ProjectFactory()
    budget = BudgetFactory(scope="project", project=project, scope_id=project.pk)
    admin, change = by(AccountRole.ADMIN), reverse("admin:billing_budget_change", args=[budget.pk])

    assert admin.post(change, {"limit": CONTENTS}).status_code == 200
    admin.post(reverse("admin:projects_secret_add"), {"name": "bad name", "plain": CONTENTS, "project": ""})
    admin.post(
        reverse("admin:projects_project_changelist"), {"action": "resume", "_selected_action": [str(project.pk)]}
    )

    found = {row["request"]: row["why"] for row in rows()}
    assert found["POST admin:billing_budget_change"] == {"limit": ["invalid"]}
    assert found["POST admin:projects_project_changelist"] == "ProjectNotActive"
    assert "POST admin:projects_secret_add" in found
    assert not Secret.objects.exists()
