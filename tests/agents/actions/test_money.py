from decimal import Decimal

import pytest

from agents.actions.money import ask_for_more, explain, fail
from agents.actions.runs import Ending
from agents.models import Run
from agents.states import RunStatus
from billing import actions as billing
from billing.models import Budget
from projects.actions import approvals
from projects.actions.approvals import Decision
from projects.models import Approval
from projects.states import ProjectStatus
from tests.factories import NOW, TESTER, ClientFactory, ProjectFactory, RunFactory, TaskFactory

pytestmark = pytest.mark.django_db


def test_a_run_over_the_projects_budget_pauses_the_project_and_asks_once() -> None:
    run = RunFactory(status="over_budget", reason="over_budget", task=TaskFactory())

    ask_for_more(run, by=TESTER, now=NOW)
    ask_for_more(run, by=TESTER, now=NOW)

    run.project.refresh_from_db()
    assert (run.project.status, run.project.approvals.get().kind) == (ProjectStatus.PAUSED, "budget")
    assert "budget" in run.project.status_reason


@pytest.mark.parametrize(("status", "reason"), [("over_budget", "run_budget"), ("failed", "no_outcome")])
def test_other_endings_leave_the_project_alone(status: str, reason: str) -> None:
    run = RunFactory(status=status, reason=reason, task=TaskFactory())

    ask_for_more(run, by=TESTER, now=NOW)

    run.project.refresh_from_db()
    assert run.project.status == ProjectStatus.BUILDING
    assert not run.project.approvals.exists()


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ("account", "all projects together"),
        ("client", "all projects of this client"),
        ("project", "The budget of"),
        ("agent", "may cost"),
    ],
)
def test_the_limit_that_is_used_up_is_the_one_that_is_raised(scope: str, said: str) -> None:
    project = ProjectFactory(status="building", client=ClientFactory())
    run = RunFactory(status="running", task=TaskFactory(project=project, status="in_progress"))
    billing.open_budgets(
        [billing.Opening(project, run_id=run.pk, run_limit=Decimal(5), agent_id=run.agent_id)], now=NOW
    )
    Budget.objects.filter(scope=scope).update(limit=Decimal(12), settled=Decimal("11.9"))
    Run.objects.filter(pk=run.pk).update(stop_requested="over_budget")
    run.refresh_from_db()
    ending = Ending(RunStatus.OVER_BUDGET, "over_budget", explain(run), counts=False)

    fail(run, ending, by=TESTER, now=NOW)

    approval = Approval.objects.get(project=project)
    assert said in approval.body
    [question] = approval.questions
    assert question["options"] == ["+5", "+10", "+15"]
    approvals.decide(approval.pk, Decision("raise", answers=["+10"]), by=TESTER, now=NOW)
    project.refresh_from_db()
    assert project.status == ProjectStatus.BUILDING
    assert Budget.objects.get(scope=scope).limit == 22


def test_who_stops_the_project_needs_no_amount() -> None:
    run = RunFactory(status="over_budget", reason="over_budget", task=TaskFactory())
    billing.open_budgets([billing.Opening(run.project, run_id=run.pk, run_limit=Decimal(5))], now=NOW)
    ask_for_more(run, by=TESTER, now=NOW)

    approvals.decide(run.project.approvals.get().pk, Decision("stop"), by=TESTER, now=NOW)

    run.project.refresh_from_db()
    assert run.project.status == ProjectStatus.CANCELLED
