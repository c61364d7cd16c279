"""Reads that several callers need."""

import hmac
from collections.abc import Collection
from uuid import UUID

from django.db.models import Case, Exists, OuterRef, QuerySet, When

from agents.errors import UnknownToken
from agents.models import Agent, Run
from agents.states import ACTIVE_RUN, AgentStatus
from agents.tokens import hash_token
from billing.models import Budget
from projects.models import Project, Task, TaskDependency
from projects.queries import stage_after
from projects.secrets import model_mode, rehearsing
from projects.states import TaskStatus


def run_by_token(token: str) -> Run:
    """Return the active run that a token belongs to, with its task, project and agent. Raises UnknownToken."""
    return run_by_token_hash(hash_token(token))


def run_by_token_hash(shown: str) -> Run:
    """Return the same for a token's hash, which a gateway may remember. Raises UnknownToken."""
    run = Run.objects.select_related("task", "project", "agent").filter(token_hash=shown, status__in=ACTIVE_RUN).first()
    # The index finds by a hash, of which nobody knows a token for a beginning; and compared in constant time besides.
    if run is None or not hmac.compare_digest(run.token_hash, shown):
        raise UnknownToken
    return run


def is_simulated(project_id: UUID) -> bool:
    """Return whether nobody paid for what a project spent: the rehearsal model answered every run that began.

    Before the first one: whether it would.
    """
    return project_id in simulated_projects([project_id])


def simulated_projects(project_ids: Collection[UUID]) -> frozenset[UUID]:
    """Return those of the projects for which nobody paid. Two statements for all of them."""
    begun = _begun().filter(project=OuterRef("pk"))
    found = Project.objects.filter(pk__in=project_ids).values_list(
        "pk", Exists(begun.filter(rehearsal=False)), Exists(begun)
    )
    unpaid = {pk: has_begun for pk, is_paid, has_begun in found if not is_paid}
    would_be = rehearsing([pk for pk, has_begun in unpaid.items() if not has_begun])
    return frozenset(pk for pk, has_begun in unpaid.items() if has_begun or pk in would_be)


def is_house_simulated(mode: str) -> bool:
    """Return whether nobody ever paid for a run. `mode` is what answers the house now: with a key it owes its money."""
    return mode == "rehearsal" and not _begun().filter(rehearsal=False).exists()


def simulated_budgets(budget_ids: Collection[UUID]) -> frozenset[UUID]:
    """Return those of the budgets from which the rehearsal model alone spent. Two statements for all of them."""
    found = Budget.objects.filter(pk__in=budget_ids).values_list(
        "pk", "scope", _of_scope(_begun().filter(rehearsal=False)), _of_scope(_begun())
    )
    unpaid = {pk: scope for pk, scope, is_paid, has_begun in found if has_begun and not is_paid}
    mode = model_mode(None)
    return frozenset(pk for pk, scope in unpaid.items() if scope != Budget.Scope.ACCOUNT or mode == "rehearsal")


def _begun() -> QuerySet[Run]:
    return Run.objects.filter(started_at__isnull=False)


def _of_scope(runs: QuerySet[Run]) -> Case:
    """Whether one of these runs spent from the budget of the row."""
    key = OuterRef("scope_id")
    return Case(
        When(scope=Budget.Scope.ACCOUNT, then=Exists(runs)),
        When(scope=Budget.Scope.CLIENT, then=Exists(runs.filter(project__client=key))),
        When(scope=Budget.Scope.PROJECT, then=Exists(runs.filter(project=key))),
        When(scope=Budget.Scope.AGENT, then=Exists(runs.filter(agent=key))),
        default=Exists(runs.filter(pk=key)),
    )


def expected_after(task: Task, *, limit: int) -> list[tuple[Task, Agent]]:
    """Return the tasks that become ready when this one's work is taken, each with the agent likeliest to get it.

    The task's agent has handed its work in. Some of what follows may not be in the database yet, or may wait for a
    person's approval as well.
    """
    expected = (stage_after(task) or _dependents_of(task))[:limit]
    if not expected:
        return []
    squad = Agent.objects.filter(project=task.project_id, member__isnull=False).exclude(status=AgentStatus.TERMINATED)
    agents = list(squad.select_related("member").order_by("name"))
    found = []
    for one in expected:
        fitting = [agent for agent in agents if agent.agent_type == one.role]
        if fitting:
            found.append((one, min(fitting, key=lambda agent: agent.specialisation != one.specialisation)))
    return found


def _dependents_of(task: Task) -> list[Task]:
    """Return the tasks that wait for this one, and for nothing else but work that was handed in as well."""
    handed_in = Run.objects.filter(task=OuterRef("depends_on"), status__in=ACTIVE_RUN).exclude(outcome={})
    others = TaskDependency.objects.filter(task=OuterRef("pk")).exclude(depends_on__status=TaskStatus.COMPLETED)
    waiting = Task.objects.filter(dependency_edges__depends_on=task, status=TaskStatus.PENDING)
    waiting = waiting.exclude(Exists(others.exclude(Exists(handed_in))))
    return list(waiting.select_related("project").order_by("-priority", "pk"))
