"""Django's admin: it shows everything, at a constant cost, and changes only what the lifecycle allows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings as configured
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import Settings

from agents.models import Run, Worker
from billing.models import Budget, LedgerEntry, Price
from learning.models import PromptVersion
from projects.ids import new_id
from projects.models import Approval, AuditLog, Plan, Project, Squad, SquadMember, Task, WebhookEndpoint
from projects.states import ApprovalKind
from tests import factories
from tests.factories import (
    ApprovalFactory,
    BudgetFactory,
    LedgerEntryFactory,
    PriceFactory,
    ProjectFactory,
    PromptVersionFactory,
    RunFactory,
    SquadMemberFactory,
    TaskFactory,
    UserFactory,
    WebhookEndpointFactory,
    WorkerFactory,
)
from tests.projects import lives

pytestmark = pytest.mark.django_db
OURS = ("accounts", "projects", "billing", "agents", "demos", "learning")
MODELS = [model for app in OURS for model in apps.get_app_config(app).get_models()]
EACH = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
ADDED_BY_HAND = {"Price", "PromptVersion", "Secret"}
CHANGED_BY_HAND = {
    "Project": {"name", "client_name"},
    "Squad": {"max_concurrent_runs"},
    "SquadMember": {"fallback_model", "model", "prompt_version_id", "max_turns", "max_minutes", "max_cost"},
    "Budget": {"limit"},
}


@pytest.fixture
def root(client: Client) -> Iterator[Client]:
    """A client signed in as superuser."""
    client.force_login(UserFactory(username="root", is_superuser=True))
    yield client
    connection.check_constraints()


def make(model: type[models.Model], count: int = 1) -> Any:
    factory = getattr(factories, f"{model.__name__}Factory")
    return [factory() for _ in range(count)][-1]


def url(model: type[models.Model], page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def cost(client: Client, address: str) -> int:
    """How many queries a page takes, once Django knows the types of contents."""
    ContentType.objects.get_for_models(*apps.get_models())
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address).status_code == 200
    return len(captured)


def told(response: Any) -> list[str]:
    """What the page tells the person at its top."""
    return [str(message) for message in response.context["messages"]]


def act(client: Client, action: str, *rows: models.Model) -> list[str]:
    """Run an admin action on rows; return what the person is told."""
    data = {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    return told(client.post(url(type(rows[0]), "changelist"), data, follow=True))


# -- every page


def test_every_table_is_registered() -> None:
    assert [model for model in MODELS if not admin.site.is_registered(model)] == []


def test_these_are_all_apps_of_the_house() -> None:
    house = {app.label for app in apps.get_app_configs() if Path(app.path).parent == configured.BASE_DIR}
    assert house == {*OURS, "eklavya"}
    assert list(apps.get_app_config("eklavya").get_models()) == []


def test_every_list_is_filtered_and_searched() -> None:
    pages = admin.site._registry.values()
    assert len(pages) > len(MODELS)
    assert [page.model for page in pages if not (page.list_filter or page.date_hierarchy)] == []
    assert [page.model for page in pages if not page.search_fields] == []


@EACH
def test_every_filter_works(root: Client, model: type[models.Model]) -> None:
    make(model)
    shown = root.get(url(model, "changelist")).context["cl"]
    for spec in shown.filter_specs:
        *_, last = spec.choices(shown)
        assert root.get(url(model, "changelist") + last["query_string"]).status_code == 200, last


@EACH
def test_list_costs_the_same_however_many_rows_and_finds_them(root: Client, model: type[models.Model]) -> None:
    row = make(model, 2)
    few = cost(root, url(model, "changelist"))
    assert few <= 14
    make(model, 3)
    assert cost(root, url(model, "changelist")) == few
    assert found(root, model, str(row.pk)) == [row]


@EACH
def test_page_of_a_row_shows_it_at_a_constant_cost(root: Client, model: type[models.Model]) -> None:
    row = make(model)
    few = cost(root, url(model, "change", row.pk))
    assert few <= 24
    make(model, 3)
    assert cost(root, url(model, "change", row.pk)) == few


@EACH
def test_only_what_no_lifecycle_owns_can_be_posted(root: Client, model: type[models.Model]) -> None:
    row = make(model)
    form = root.get(url(model, "change", row.pk)).context["adminform"].form
    assert set(form.fields) == CHANGED_BY_HAND.get(model.__name__, set())
    before = model._default_manager.values().get(pk=row.pk)
    data = {name: value for name, value in before.items() if value is not None and not isinstance(value, (dict, list))}
    response = root.post(url(model, "change", row.pk), data | inline_forms(model) | {"status": "cancelled"})
    assert response.status_code == (302 if model.__name__ in CHANGED_BY_HAND else 403)
    assert model._default_manager.values().get(pk=row.pk) == before


@EACH
def test_rows_are_made_and_deleted_by_actions_alone(root: Client, model: type[models.Model]) -> None:
    row = make(model)
    assert root.get(url(model, "add")).status_code == (200 if model.__name__ in ADDED_BY_HAND else 403)
    if model.__name__ not in ADDED_BY_HAND:
        assert root.post(url(model, "add"), {}).status_code == 403
    assert root.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    root.post(url(model, "changelist"), {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    assert model._default_manager.filter(pk=row.pk).exists()


@pytest.mark.parametrize("term", ["\x00", "x" * 3_000, "<b>' OR 1=1 -- %_\\ 🦉"], ids=["nul", "long", "odd"])
def test_search_takes_anything(root: Client, term: str) -> None:
    for model in (Project, AuditLog, Run):
        assert root.get(url(model, "changelist"), {"q": term}).status_code == 200


def test_history_of_a_row_is_there(root: Client) -> None:
    assert root.get(url(Project, "history", ProjectFactory().pk)).status_code == 200


def test_pages_are_closed_to_others(client: Client) -> None:
    for user, status in ((None, 302), (UserFactory(), 403), (UserFactory(is_staff=True), 403)):
        if user:
            client.force_login(user)
        assert {client.get(url(model, "changelist")).status_code for model in MODELS} == {status}


def found(client: Client, model: type[models.Model], term: str) -> list[models.Model]:
    """The rows that a search shows."""
    return list(client.get(url(model, "changelist"), {"q": term}).context["cl"].queryset)


def inline_forms(model: type[models.Model]) -> dict[str, int]:
    """What a browser sends for the rows below, none of which can be changed."""
    prefixes = {"Project": ["requirements"], "Squad": ["members"]}.get(model.__name__, [])
    return {f"{prefix}-{name}": 0 for prefix in prefixes for name in ("TOTAL_FORMS", "INITIAL_FORMS")}


def test_token_hash_is_shown_nowhere(root: Client) -> None:
    run = RunFactory(status="running")
    for address in (url(Run, "changelist"), url(Run, "change", run.pk)):
        assert run.token_hash not in root.get(address).content.decode()


def test_what_agents_wrote_is_shown_escaped(root: Client) -> None:
    task = TaskFactory(title="<script>alert(1)</script>", context={"x": "</div><script>"})
    for address in (url(Task, "changelist"), url(Task, "change", task.pk)):
        page = root.get(address).content.decode()
        assert "<script>alert" not in page
        assert "</div><script>" not in page


# -- the lifecycle's verbs


@pytest.mark.parametrize(
    ("action", "old", "new"),
    [
        ("pause", "building", "paused"),
        ("resume", "paused", "planning"),
        ("cancel", "demo", "cancelled"),
        ("archive", "complete", "archived"),
    ],
)
def test_project_is_steered_in_the_name_of_the_person(root: Client, action: str, old: str, new: str) -> None:
    project = ProjectFactory(status=old)
    assert act(root, action, project) == ["Done for 1."]
    project.refresh_from_db()
    assert project.status == new
    assert set(AuditLog.objects.values_list("actor_name", "action")) == {("root", f"project.{new}")}


@pytest.mark.parametrize(
    ("action", "status", "why"),
    [
        ("pause", "complete", "cannot become paused"),
        ("resume", "building", "is not paused"),
        ("cancel", "archived", "cannot become cancelled"),
        ("archive", "planning", "cannot become archived"),
    ],
)
def test_refusal_is_a_message_and_stops_no_other(root: Client, action: str, status: str, why: str) -> None:
    good = {"pause": "demo", "resume": "paused", "cancel": "paused", "archive": "cancelled"}[action]
    refused, other = ProjectFactory(status=status, name="Lendery"), ProjectFactory(status=good)
    first, second = sorted(act(root, action, refused, other), reverse=True)
    assert first.startswith("Lendery: ")
    assert why in first
    assert second == "Done for 1."
    assert Project.objects.get(pk=refused.pk).status == status
    assert Project.objects.get(pk=other.pk).status != good


def test_verbs_are_not_for_those_who_may_only_look(client: Client) -> None:
    user = UserFactory(is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_project"))
    client.force_login(user)
    project = ProjectFactory()
    response = client.post(url(Project, "changelist"), {"action": "pause", "_selected_action": [project.pk]})
    assert b'name="action"' not in response.content
    assert Project.objects.get(pk=project.pk).status == "planning"
    assert client.get(url(Project, "change", project.pk)).status_code == 200
    assert client.post(url(Project, "change", project.pk), {"name": "X"}).status_code == 403


def test_stuck_task_is_tried_again_through_its_question(root: Client) -> None:
    task = TaskFactory(status="blocked", attempts=3)
    approval = ApprovalFactory(project=task.project, task=task, kind=ApprovalKind.BLOCKED_TASK)
    assert act(root, "retry", task) == ["Done for 1."]
    assert Task.objects.get(pk=task.pk).status == "ready"
    assert Approval.objects.get(pk=approval.pk).status == "approved"


def test_stuck_task_is_given_up_through_its_question(root: Client) -> None:
    task = TaskFactory(status="blocked")
    approval = ApprovalFactory(project=task.project, task=task, kind=ApprovalKind.BLOCKED_TASK)
    assert act(root, "give_up", task) == ["Done for 1."]
    assert Task.objects.get(pk=task.pk).status == "failed"
    assert Approval.objects.get(pk=approval.pk).status == "rejected"


def test_failed_task_is_tried_again(root: Client) -> None:
    task = TaskFactory(status="failed")
    assert act(root, "retry", task) == ["Done for 1."]
    assert Task.objects.get(pk=task.pk).status == "ready"


def test_task_that_waits_for_answers_is_not_pushed_on(root: Client) -> None:
    task = TaskFactory(status="blocked", kind="requirements")
    ApprovalFactory(project=task.project, task=task, kind=ApprovalKind.QUESTION)
    (message,) = act(root, "retry", task)
    assert "waits for answers" in message
    assert Task.objects.get(pk=task.pk).status == "blocked"


@pytest.mark.parametrize("action", ["retry", "give_up"])
def test_task_that_waits_for_nobody_is_left_alone(root: Client, action: str) -> None:
    task = TaskFactory(status="ready")
    (message,) = act(root, action, task)
    assert message.startswith(f"{task}: ")
    assert Task.objects.get(pk=task.pk).status == "ready"


def test_decision_is_taken_as_recommended(root: Client) -> None:
    approval = ApprovalFactory()
    assert act(root, "take_recommended", approval) == ["Done for 1."]
    approval.refresh_from_db()
    assert (approval.status, approval.decided_by.username) == ("approved", "root")


def test_closed_decision_is_not_taken_again(root: Client) -> None:
    (message,) = act(root, "take_recommended", ApprovalFactory(status="rejected"))
    assert "cannot become approved" in message


def test_plan_is_approved_through_its_question(root: Client) -> None:
    approval = lives.planned()
    plan = Plan.objects.get(pk=approval.subject_id)
    assert act(root, "approve", plan) == ["Done for 1."]
    plan.refresh_from_db()
    assert (plan.status, plan.project.status) == ("active", "demo")
    assert Approval.objects.get(pk=approval.pk).decided_by.username == "root"
    assert act(root, "approve", plan) == [f"{plan}: It is active: there is nothing to decide about it."]


def test_run_is_stopped_in_the_name_of_the_person(root: Client) -> None:
    running = RunFactory(status="running")
    queued = RunFactory(task=TaskFactory(status="allocated", project=running.project))
    assert act(root, "stop", running, queued) == ["Done for 2."]
    running.refresh_from_db()
    queued.refresh_from_db()
    assert (running.status, running.stop_requested) == ("running", "stopped")
    assert (queued.status, queued.reason, queued.task.attempts) == ("cancelled", "stopped", 0)
    assert Task.objects.get(pk=queued.task_id).status == "ready"
    rows = AuditLog.objects.filter(action="run.stop_requested").values_list("actor_name", "object_type", "object_id")
    assert set(rows) == {("root", "run", str(run.pk)) for run in (running, queued)}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"status": "merging"}, "It is merging: there is nothing to stop any more."),
        ({"status": "failed"}, "It is failed: there is nothing to stop any more."),
        ({"status": "running", "stop_requested": "paused"}, "It was asked to end already: paused."),
    ],
)
def test_run_that_cannot_be_stopped_is_left_alone(root: Client, fields: dict[str, str], why: str) -> None:
    run = RunFactory(**fields)
    assert act(root, "stop", run) == [f"{run}: {why}"]
    assert Run.objects.filter(pk=run.pk, **fields).exists()
    assert not AuditLog.objects.exclude(action="request.refused").exists()


def test_worker_is_taken_out_of_use_and_back(root: Client) -> None:
    worker = WorkerFactory(name="asha")
    run = RunFactory(status="running", worker=worker)
    assert act(root, "cordon", worker) == ["Done for 1."]
    worker.refresh_from_db()
    assert (worker.status, worker.cordoned_at is None) == ("online", False)
    assert act(root, "drain", worker) == ["asha hands over 1 run.", "Done for 1."]
    worker.refresh_from_db()
    assert (worker.status, Run.objects.get(pk=run.pk).stop_requested) == ("draining", "worker_draining")
    assert act(root, "uncordon", worker) == ["Done for 1."]
    worker.refresh_from_db()
    assert (worker.status, worker.cordoned_at) == ("online", None)
    rows = AuditLog.objects.filter(object_type="worker").order_by("seq").values_list("actor_name", "action")
    assert list(rows) == [("root", f"worker.{done}") for done in ("cordoned", "drained", "uncordoned")]


def test_webhook_is_disabled_and_enabled(root: Client, settings: Settings) -> None:
    settings.EKLAVYA_WEBHOOK_HOSTS = "127.0.0.1:443"
    endpoint = WebhookEndpointFactory(url="https://127.0.0.1/hook")
    assert act(root, "disable", endpoint) == ["Done for 1."]
    endpoint.refresh_from_db()
    assert (endpoint.status, endpoint.reason) == ("disabled", "Disabled by root.")
    (refusal,) = act(root, "disable", endpoint)
    assert refusal.startswith(f"{endpoint}: ")
    assert act(root, "enable", endpoint) == ["Done for 1."]
    endpoint.refresh_from_db()
    assert endpoint.status == "active"
    assert AuditLog.objects.get(action="webhook.enabled").actor_name == "root"


def test_webhook_to_where_nothing_may_be_sent_stays_disabled(root: Client) -> None:
    endpoint = WebhookEndpointFactory(url="https://127.0.0.1/hook", status="disabled")
    (refusal,) = act(root, "enable", endpoint)
    assert refusal.startswith(f"{endpoint}: ")
    endpoint.refresh_from_db()
    assert endpoint.status == "disabled"


STEERED = [
    (Plan, "approve"),
    (Run, "stop"),
    (Worker, "cordon"),
    (Worker, "drain"),
    (Worker, "uncordon"),
    (WebhookEndpoint, "enable"),
    (WebhookEndpoint, "disable"),
]


@pytest.mark.parametrize(("model", "action"), STEERED)
def test_no_verb_is_offered_to_those_who_may_only_look(client: Client, model: type[models.Model], action: str) -> None:
    user = UserFactory(is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename=f"view_{model._meta.model_name}"))
    client.force_login(user)
    row = make(model)
    before = model._default_manager.values().get(pk=row.pk)
    response = client.post(url(model, "changelist"), {"action": action, "_selected_action": [row.pk]})
    assert b'name="action"' not in response.content
    assert model._default_manager.values().get(pk=row.pk) == before
    assert not AuditLog.objects.exists()


# -- settings


def test_renamed_project_keeps_its_name_and_the_record(root: Client) -> None:
    project = ProjectFactory(name="We lend…")
    data = {"name": " Lendery\u202e ", "client_name": ""} | inline_forms(Project)
    assert root.post(url(Project, "change", project.pk), data).status_code == 302
    project.refresh_from_db()
    assert (project.name, project.client_name, project.config) == ("Lendery", "", {"named_by_person": True})
    row = AuditLog.objects.get(action="project.changed")
    assert row.chain == str(project.pk)
    assert row.details["name"] == {"from": "We lend…", "to": "Lendery"}


def test_project_is_not_left_without_a_name(root: Client) -> None:
    project = ProjectFactory(name="Lendery")
    data = {"name": "\u202e"} | inline_forms(Project)
    response = root.post(url(Project, "change", project.pk), data, follow=True)
    assert told(response) == ["A project needs a name."]
    assert Project.objects.get(pk=project.pk).name == "Lendery"


def test_limits_of_a_squad_are_set_and_recorded(root: Client) -> None:
    squad = ProjectFactory().squad
    root.post(url(Squad, "change", squad.pk), {"max_concurrent_runs": 2} | inline_forms(Squad))
    squad.refresh_from_db()
    assert squad.max_concurrent_runs == 2
    row = AuditLog.objects.get(action="squad.changed")
    assert (row.details, row.chain) == ({"max_concurrent_runs": {"from": 4, "to": 2}}, str(squad.project_id))


def test_model_of_a_member_is_set_and_recorded(root: Client) -> None:
    member = SquadMemberFactory()
    data = {"model": "claude-haiku-4-5", "max_turns": 60, "max_minutes": 30, "max_cost": "5"}
    assert root.post(url(SquadMember, "change", member.pk), data).status_code == 302
    member.refresh_from_db()
    assert member.model == "claude-haiku-4-5"
    assert AuditLog.objects.get(action="squadmember.changed").details.keys() == {"model"}


def test_impossible_setting_is_shown_on_its_form(root: Client) -> None:
    member = SquadMemberFactory()
    data = {"model": "claude-haiku-4-5", "max_turns": 60, "max_minutes": 30, "max_cost": "-1"}
    response = root.post(url(SquadMember, "change", member.pk), data)
    assert response.status_code == 200
    assert response.context["errors"]


def test_limit_of_a_project_is_raised_by_its_action(root: Client) -> None:
    budget = BudgetFactory(settled=3)
    assert root.post(url(Budget, "change", budget.pk), {"limit": "40"}).status_code == 302
    assert Budget.objects.get(pk=budget.pk).limit == 40
    assert Project.objects.get(pk=budget.project.pk).budget_limit == 40
    assert AuditLog.objects.get(action="billing.limit_changed").actor_name == "root"


def test_limit_below_what_is_spent_is_refused_in_words(root: Client) -> None:
    budget = BudgetFactory(settled=3)
    response = root.post(url(Budget, "change", budget.pk), {"limit": "2"}, follow=True)
    assert "spent or held already" in response.content.decode()
    assert Budget.objects.get(pk=budget.pk).limit == 25


def test_limit_of_a_run_is_not_set_here(root: Client) -> None:
    budget = BudgetFactory(scope="run")
    assert root.post(url(Budget, "change", budget.pk), {"limit": "40"}).status_code == 403


def test_limit_of_a_client_is_set_and_taken_away(root: Client) -> None:
    budget = BudgetFactory(scope="client", project=None, scope_id=new_id(), limit=None)
    for limit, stored in (("40", 40), ("", None)):
        assert root.post(url(Budget, "change", budget.pk), {"limit": limit}).status_code == 302
        assert Budget.objects.get(pk=budget.pk).limit == stored


def test_price_is_added_and_recorded(root: Client) -> None:
    data = {
        "model": "claude-next",
        "valid_from": "2026-04-01",
        "input_per_mtok": "3",
        "output_per_mtok": "15",
        "cache_write_per_mtok": "3.75",
        "long_cache_write_per_mtok": "6",
        "cache_read_per_mtok": "0.3",
        "currency": "USD",
    }
    assert root.post(url(Price, "add"), data).status_code == 302
    price = Price.objects.get(model="claude-next")
    row = AuditLog.objects.get(action="price.added")
    assert (row.object_id, row.chain, row.actor_name) == (str(price.pk), "account", "root")


def test_price_twice_for_a_date_is_shown_on_its_form(root: Client) -> None:
    price = PriceFactory()
    data = {name: getattr(price, name) for name in ("model", "valid_from", "currency")}
    data |= {field.name: 1 for field in Price._meta.fields if field.name.endswith("_per_mtok")}
    assert root.post(url(Price, "add"), data).status_code == 200
    assert not AuditLog.objects.exclude(action="request.refused").exists()


def test_prompt_is_added_as_a_draft_and_made_active(root: Client) -> None:
    data = {"agent_type": "qa", "prompt_text": "Look twice."}
    response = root.post(url(PromptVersion, "add"), data, follow=True)
    version = PromptVersion.objects.get(agent_type="qa", prompt_text="Look twice.")
    assert (version.status, version.origin) == ("draft", "person")
    assert str(version) in response.content.decode()
    assert act(root, "activate", version) == ["Done for 1."]
    version.refresh_from_db()
    assert version.status == "active"
    assert act(root, "retire", version) == [f"{version}: {version} is active. Make another version active instead."]


def test_unusable_prompt_is_refused_in_words(root: Client) -> None:
    response = root.post(url(PromptVersion, "add"), {"agent_type": "qa", "prompt_text": "x" * 60_000}, follow=True)
    assert "the limit is 50,000" in response.content.decode()
    assert not PromptVersion.objects.exists()


def test_text_of_a_prompt_is_not_changed(root: Client) -> None:
    version = PromptVersionFactory()
    assert root.post(url(PromptVersion, "change", version.pk), {"prompt_text": "Other."}).status_code == 403


def test_ledger_line_is_not_changed(root: Client) -> None:
    line = LedgerEntryFactory()
    assert root.post(url(LedgerEntry, "change", line.pk), {"amount": "0"}).status_code == 403


@EACH
def test_every_list_has_a_name_that_is_english(model: type[models.Model]) -> None:
    plural = str(model._meta.verbose_name_plural)
    assert not plural.endswith(("cys", "rys", "tys", "ys ", "feedbacks", "ss"))
