import pytest
from django.db import ProgrammingError, transaction
from django.test import Client
from django.urls import reverse

from accounts.roles import AccountRole
from agents.actions.specialisations import make_specialisation, specialise_agent
from agents.errors import InvalidSpecialisation, UnknownSpecialisation
from agents.models import Agent, Specialisation
from agents.roles import ROLES, Narrowing, Terminal, policy_of
from agents.roles.of_runs import known_specialisations, policy_of_agent
from projects.models import AuditLog
from projects.roles import Role
from tests.accounts.making import person
from tests.factories import NOW, TESTER, AgentFactory, RunFactory

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

    policy = policy_of(run)
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

    assert policy_of_agent(agent) == ROLES[Role.QA]


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
        policy_of_agent(AgentFactory(agent_type=Role.DEVELOPER, specialisation=key))


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
    data = {"agent": str(agent.pk), "specialisation": "writer"}
    assert client.post(reverse("agent_specialise"), data).status_code == 302

    agent.refresh_from_db()
    policy = policy_of_agent(agent)
    assert (policy.writable, policy.limits.minutes) == ({"docs/", "README.md"}, 10)


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


@pytest.mark.parametrize("name", ["specialisation_new", "agent_specialise"])
def test_nobody_but_an_admin_changes_anything(name: str) -> None:
    assert as_role(AccountRole.OPERATOR).post(reverse(name), {}).status_code == 403
