import pytest
from django.db import ProgrammingError, transaction
from django.test import Client
from django.urls import reverse

from accounts.roles import AccountRole
from agents.actions import verbs
from agents.actions.dispatch import dispatch
from agents.actions.specialisations import make_specialisation, specialise_agent, specialise_member
from agents.context import task_context
from agents.errors import InvalidSpecialisation, UnknownSpecialisation
from agents.models import Agent, Run, Specialisation
from agents.roles import BUILT_IN, ROLES, Narrowing, Terminal, limits_of_run, policy_of
from agents.roles.of_runs import known_specialisations
from projects.errors import InvalidPlan
from projects.models import AuditLog, Project, SquadMember
from projects.roles import Role
from projects.states import TaskKind
from tests.accounts.making import person
from tests.factories import NOW, TESTER, AgentFactory, ProjectFactory, RunFactory, TaskFactory, WorkerFactory
from tests.projects.lives import begin, building

pytestmark = pytest.mark.django_db
WRITES_DOCS = Narrowing(writable=frozenset({"docs/"}), terminal=Terminal.NO)


def made(name: str = "Tech writer", base: Role = Role.DEVELOPER, narrowing: Narrowing = WRITES_DOCS) -> Specialisation:
    return make_specialisation(name, base, narrowing, by=TESTER, now=NOW)


def developer() -> Agent:
    agent: Agent = AgentFactory(agent_type=Role.DEVELOPER, status="ready")
    return agent


def test_an_agent_with_a_specialisation_is_held_by_it() -> None:
    run = RunFactory(agent=developer())
    assert policy_of(run) == ROLES[Role.DEVELOPER]

    specialise_agent(run.agent, made().key, by=TESTER, now=NOW)
    run.agent.refresh_from_db()

    policy = policy_of(RunFactory(agent=run.agent, status="failed"))
    assert (policy.writable, policy.terminal) == ({"docs/"}, Terminal.NO)
    assert policy.is_within(ROLES[Role.DEVELOPER])
    actions = set(AuditLog.objects.values_list("action", flat=True))
    assert {"specialisation.made", "agent.specialised"} <= actions


def test_a_wider_one_is_not_made() -> None:
    with pytest.raises(InvalidSpecialisation, match="Tester may not write app/"):
        made(base=Role.TESTER, narrowing=Narrowing(writable=frozenset({"app/"})))
    assert not Specialisation.objects.exists()
    assert not AuditLog.objects.filter(action="specialisation.made").exists()


def test_a_row_that_asks_for_more_gives_no_more() -> None:
    wants = Narrowing(writable=frozenset({""}), terminal=Terminal.FULL).to_json()
    Specialisation.objects.create(key="sly", name="Sly", base_role=Role.QA, narrowing=wants, created_at=NOW)
    agent = AgentFactory(agent_type=Role.QA, specialisation="sly")

    assert policy_of(RunFactory(agent=agent)) == ROLES[Role.QA]


@pytest.mark.parametrize("name", ["Backend", "backend", "Tech writer", "!!"])
def test_names_are_keys(name: str) -> None:
    made()
    with pytest.raises(InvalidSpecialisation):
        made(name)


def test_one_that_is_made_stays_as_it_is() -> None:
    row = made()
    for change in (lambda: Specialisation.objects.update(narrowing={}), row.delete):
        with pytest.raises(ProgrammingError, match="Cannot update or delete"), transaction.atomic():
            change()


def test_only_of_its_own_role_and_not_while_it_works() -> None:
    agent = developer()
    with pytest.raises(InvalidSpecialisation, match="no specialisation of the role"):
        specialise_agent(agent, "planning", by=TESTER, now=NOW)
    with pytest.raises(UnknownSpecialisation):
        specialise_agent(agent, "invented", by=TESTER, now=NOW)
    Agent.objects.filter(pk=agent.pk).update(status="working")
    with pytest.raises(InvalidSpecialisation, match="works right now"):
        specialise_agent(agent, "frontend", by=TESTER, now=NOW)


@pytest.mark.parametrize("key", ["invented", "planning"])
def test_one_that_cannot_be_it_allows_nothing(key: str) -> None:
    with pytest.raises(UnknownSpecialisation):
        policy_of(RunFactory(agent=AgentFactory(agent_type=Role.DEVELOPER, specialisation=key)))


# Squads and tasks


def squads_developers(project: Project) -> SquadMember:
    member: SquadMember = SquadMember.objects.select_related("squad").get(squad__project=project, role=Role.DEVELOPER)
    return member


def test_a_run_is_held_by_what_its_squads_row_its_agent_and_its_task_have() -> None:
    project = ProjectFactory(status="building")
    TaskFactory(project=project, specialisation="designer")
    WorkerFactory()
    specialise_member(squads_developers(project), "frontend", by=TESTER, now=NOW)
    key = made(narrowing=Narrowing(writable=frozenset({"templates/", "app/"}), turns=7)).key
    agent = AgentFactory(project=project, agent_type=Role.DEVELOPER, member=squads_developers(project))
    specialise_agent(agent, key, by=TESTER, now=NOW)

    (sent,) = dispatch(now=NOW)

    run = Run.objects.select_related("agent__member", "task__project", "project").get(pk=sent.run_id)
    assert run.specialisations == ["frontend", key, "designer"]
    policy = policy_of(run)
    assert (policy.writable, policy.terminal) == ({"templates/"}, Terminal.NO)
    for wider in (BUILT_IN["frontend"].policy, BUILT_IN["designer"].policy, ROLES[Role.DEVELOPER]):
        assert policy.is_within(wider)
    assert (limits_of_run(run).turns, run.max_turns) == (7, 7)
    queued = AuditLog.objects.get(action="run.queued")
    assert queued.details["specialisations"] == run.specialisations
    assert AuditLog.objects.get(action="squad.specialised").details == {
        "role": "developer", "before": "", "after": "frontend"
    }  # fmt: skip
    told = task_context(run)["narrowed_to"]
    assert (told["File system"], told["Terminal"]) == ("Read/Write (templates/)", "No")


def test_a_run_stays_as_it_was_made() -> None:
    run = RunFactory(task=TaskFactory(specialisation="designer"))
    before = policy_of(run)

    specialise_member(squads_developers(run.project), "backend", by=TESTER, now=NOW)
    run.task.specialisation = ""
    run.task.save(update_fields=["specialisation"])

    assert policy_of(Run.objects.get(pk=run.pk)) == before == BUILT_IN["designer"].policy


def test_a_task_goes_to_the_agent_that_it_is_for() -> None:
    project = ProjectFactory(status="building")
    WorkerFactory(capacity=4)
    for name, key in (("a", "backend"), ("b", ""), ("c", "frontend")):
        AgentFactory(project=project, name=name, specialisation=key, member=squads_developers(project))
    plain, named = TaskFactory(project=project), TaskFactory(project=project, specialisation="frontend")

    dispatch(now=NOW)

    runs = Run.objects.select_related("agent")
    assert {run.task_id: run.agent.name for run in runs} == {plain.pk: "b", named.pk: "c"}


def test_a_task_with_one_that_is_not_known_keeps_nothing_else_waiting() -> None:
    project, other = ProjectFactory(status="building"), ProjectFactory(status="building")
    tasks = TaskFactory(project=project, specialisation="gone"), TaskFactory(project=other)
    WorkerFactory(capacity=4)

    dispatch(now=NOW)

    lost, fine = (Run.objects.select_related("agent").get(task=task) for task in tasks)
    assert policy_of(fine) == ROLES[Role.DEVELOPER]
    with pytest.raises(UnknownSpecialisation):
        policy_of(lost)


def test_a_role_of_a_squad_gets_only_its_own() -> None:
    member = squads_developers(ProjectFactory())
    with pytest.raises(InvalidSpecialisation, match="no specialisation of the role"):
        specialise_member(member, "planning", by=TESTER, now=NOW)
    with pytest.raises(UnknownSpecialisation):
        specialise_member(member, "invented", by=TESTER, now=NOW)
    assert not AuditLog.objects.filter(action="squad.specialised").exists()


def submit(key: str) -> Run:
    task = TaskFactory(kind=TaskKind.PLAN, role=Role.ARCHITECT, status="in_progress", plan=None)
    run: Run = RunFactory(status="running", task=task)
    assert {"key": "tech_writer", "role": "developer", "about": ""} in task_context(run)["specialisations"]
    node = {"key": "a", "title": "A", "role": "developer", "specialisation": key}
    verbs.end_run(run, "submit_plan", {"summary": "", "tasks": [node]}, now=NOW)
    return run


@pytest.mark.parametrize("key", ["frontend", "tech_writer", ""])
def test_a_planned_task_may_name_one_of_its_role(key: str) -> None:
    made()
    run = submit(key)
    run.refresh_from_db()
    assert run.outcome["args"]["tasks"][0]["specialisation"] == key


@pytest.mark.parametrize(("key", "told"), [("planning", "use backend or"), ("gone", "tech_writer"), ("../x", "key")])
def test_a_plan_with_another_comes_back_with_what_to_use(key: str, told: str) -> None:
    made()
    with pytest.raises(InvalidPlan, match=told):
        submit(key)


# The page


def as_role(role: AccountRole) -> Client:
    client = Client()
    client.force_login(person(role))
    return client


def test_the_page_shows_every_role_and_specialisation() -> None:
    made()
    text = as_role(AccountRole.VIEWER).get(reverse("roles")).content.decode()
    for name in [*(role.label for role in Role), *(item.of.name for item in known_specialisations())]:
        assert name in text
    assert "Make a specialisation" not in text


def test_an_admin_makes_one_and_gives_it() -> None:
    client, agent = as_role(AccountRole.ADMIN), developer()
    given = {"name": "Writer", "base": "developer", "writable": "docs/ README.md", "no_terminal": "on", "minutes": "10"}

    assert client.post(reverse("specialisation_new"), given).status_code == 302
    data = {"to": str(agent.pk), "specialisation": "writer"}
    assert client.post(reverse("agent_specialise"), data).status_code == 302

    agent.refresh_from_db()
    policy = policy_of(RunFactory(agent=agent))
    assert (policy.writable, policy.limits.minutes) == ({"docs/", "README.md"}, 10)


def test_an_admin_gives_a_role_of_a_squad_one() -> None:
    client, member = as_role(AccountRole.ADMIN), squads_developers(ProjectFactory(name="Orchard"))

    data = {"to": str(member.pk), "specialisation": "frontend"}
    assert client.post(reverse("squad_specialise"), data).status_code == 302
    AgentFactory(project=member.squad.project, member=member)

    assert "Orchard: Developer (frontend)" in client.get(reverse("roles")).content.decode()
    assert ">frontend</span>" in client.get(reverse("agents")).content.decode()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"base": "tester", "writable": "app/"}, "may not write app/"),
        ({"base": "pm", "writable": "../etc/"}, "names no place"),
        ({"base": "pm", "memory_mb": "999999"}, "has less memory_mb"),
    ],
)
def test_what_is_refused_is_said_where_it_was_typed(given: dict[str, str], told: str) -> None:
    answer = as_role(AccountRole.ADMIN).post(reverse("specialisation_new"), {"name": "Writer", **given})
    assert answer.status_code == 422
    assert told in answer.content.decode()


@pytest.mark.parametrize("name", ["specialisation_new", "agent_specialise", "squad_specialise"])
def test_nobody_but_an_admin_changes_anything(name: str) -> None:
    assert as_role(AccountRole.OPERATOR).post(reverse(name), {}).status_code == 403


def test_what_a_narrowed_agent_adds_for_its_own_role_is_narrowed_too() -> None:
    """The task itself may be for the whole role."""
    task = begin(building()["storage"])
    run = RunFactory(project=task.project, task=task, agent__agent_type=task.role, specialisations=["backend"])
    drafts = [{"key": key, "title": key, "role": role} for key, role in (("tables", "developer"), ("look", "qa"))]

    verbs.add_tasks(run, drafts, now=NOW)

    added = task.subtasks.values_list("key", "specialisation")
    assert dict(added) == {"tables": "backend", "look": ""}
