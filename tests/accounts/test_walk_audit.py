"""Whatever an admin posts to the portal, the API or Django's admin: if it changes a row, it leaves an audit row."""

import re
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiKey
from accounts.roles import AccountRole
from projects.models import Secret, SquadMember
from tests.accounts.making import key_of, person
from tests.accounts.test_walk import ADMIN, ROWS, SHOWN, address_of, house
from tests.factories import BudgetFactory, NotificationFactory, ProjectFactory, UserFactory

__all__ = ["house"]  # a fixture
pytestmark = pytest.mark.django_db
WRITE = re.compile(r'^(?:INSERT INTO|UPDATE|DELETE FROM) "?(\w+)"?')
# What is no change: who is signed in, guesses that are counted, the heads of the chains themselves.
PASSING = {"django_session", "axes_accesslog", "axes_accessattempt", "axes_accessfailurelog", "projects_auditchain"}
# Django's own log of its admin; beside ours, never instead of it.
PASSING |= {"django_admin_log"}


def posted(client: Client, address: str, data: dict[str, Any], **kind: str) -> tuple[set[str], bool, int]:
    """The tables that a request changed, whether it left an audit row, and its answer; taken back."""
    with CaptureQueriesContext(connection) as statements, transaction.atomic():
        status = client.post(address, data, **kind).status_code  # type: ignore[arg-type]
        transaction.set_rollback(True)
    changed = {match[1] for one in statements if (match := WRITE.match(one["sql"]))}
    return changed - PASSING - {"projects_auditlog"}, "projects_auditlog" in changed, status


def test_whatever_changes_something_in_the_portal_leaves_an_audit_row(house: dict[str, Any]) -> None:
    admin = person(AccountRole.ADMIN)
    key_of(admin, "projects:read", now=timezone.now())
    house |= {"user_id": UserFactory().pk, "key_id": ApiKey.objects.latest("pk").pk}
    NotificationFactory()
    silent, changing = {}, set()
    for name, row in ROWS.items():
        client = Client()  # one of the posts signs out
        client.force_login(admin)
        User.objects.filter(pk=house["user_id"]).update(is_active=name != "person_on")  # else there is nothing to do
        kind = {"content_type": "application/json"} if row.as_json else {}
        changed, recorded, status = posted(client, address_of(name, house), row.data, **kind)
        assert status < 500, name
        changing |= {name} if changed else set()
        if changed and not recorded:
            silent[name] = changed

    assert silent == {}, silent
    # the test would see nothing if nothing was changed
    assert {
        "project_new",
        "project_say",
        "project_limit",
        "person_off",
        "api_key_revoke",
        "webhook_disable",
    } <= changing


def forms() -> dict[str, tuple[str, dict[str, Any]]]:
    """For each table that Django's admin changes or adds to: the form's address, and what is typed."""
    project = ProjectFactory()
    member = SquadMember.objects.filter(squad__project=project)[0]
    budget = BudgetFactory(limit=Decimal(10))
    price = {"model": "made-up", "valid_from": "2031-01-01", "currency": "USD"}
    price |= {f"{kind}_per_mtok": "1" for kind in ("input", "output", "cache_write", "long_cache_write", "cache_read")}
    return {
        "billing.budget": (reverse("admin:billing_budget_change", args=[budget.pk]), {"limit": "12"}),
        "billing.price": (reverse("admin:billing_price_add"), price),
        "learning.promptversion": (
            reverse("admin:learning_promptversion_add"),
            {"agent_type": "developer", "prompt_text": "Work well. " * 20},
        ),
        "projects.project": (reverse("admin:projects_project_change", args=[project.pk]), {"name": "Other"}),
        "projects.secret": (
            reverse("admin:projects_secret_add"),
            {"project": str(project.pk), "name": "ANTHROPIC_API_KEY", "plain": "x" * 40},
        ),
        "projects.squad": (
            reverse("admin:projects_squad_change", args=[member.squad_id]),
            {"max_concurrent_runs": "7"},
        ),
        "projects.squadmember": (
            reverse("admin:projects_squadmember_change", args=[member.pk]),
            {"max_turns": "77"},
        ),
    }


def filled(client: Client, address: str) -> dict[str, Any]:
    """What a browser would send of a form as it is shown."""
    context = client.get(address).context
    form = context["adminform"].form
    data = {name: form.initial[name] for name in form.fields if form.initial.get(name) is not None}
    for inline in context["inline_admin_formsets"]:
        rows = inline.formset.management_form
        data |= {f"{rows.prefix}-{name}": value for name, value in rows.initial.items()}
    return data


def test_whatever_changes_something_in_the_admin_leaves_an_audit_row() -> None:
    client = Client()
    client.force_login(person(AccountRole.ADMIN))
    typed = forms()
    assert typed.keys() == {table for table, rights in ADMIN.items() if rights != SHOWN}, "say what is typed there"
    for table, (address, data) in typed.items():
        changed, recorded, status = posted(client, address, {**filled(client, address), **data})
        assert (bool(changed), recorded, status) == (True, True, 302), table
    assert not Secret.objects.exists()
