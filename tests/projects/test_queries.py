"""Reads that several callers need, and what they cost."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from projects import queries
from projects.actions import tasks
from projects.models import Project, SquadMember, Task, TaskDependency
from projects.plans import PlannedTask
from projects.states import OPEN_APPROVAL, ApprovalStatus, ProjectStatus, TaskStatus
from tests.factories import (
    NOW,
    TESTER,
    ApprovalFactory,
    NotificationFactory,
    ProjectFactory,
    TaskFactory,
)
from tests.projects import lives

pytestmark = pytest.mark.django_db


def order(*, limit: int = 100, slack: int = 20, now: Any = NOW) -> list[str]:
    """Titles of the dispatchable tasks, in order."""
    found = queries.dispatchable(now=now, limit=limit, slack=slack)
    titles = dict(Task.objects.values_list("pk", "title"))
    return [titles[candidate.task_id] for candidate in found]


def limited(most: int, **fields: Any) -> Project:
    """A project that may have so many runs at once."""
    project = ProjectFactory(status="building", **fields)
    type(project.squad).objects.filter(project=project).update(max_concurrent_runs=most)
    return project


def tasks_of(project: Project, *titles: str, **fields: Any) -> None:
    for title in titles:
        TaskFactory(project=project, title=title, **fields)


def statements(call: Any) -> list[str]:
    """What a call asks of the database: verb and table of each statement, without savepoints."""
    with CaptureQueriesContext(connection) as captured:
        call()
    sql = [query["sql"] for query in captured.captured_queries if "SAVEPOINT" not in query["sql"]]
    named = [(text.split()[0], re.findall(r"projects_[a-z]+", text)) for text in sql]
    return [f"{verb} {tables[0]}" for verb, tables in named if tables]  # a lock names none


# -- what may be dispatched


@pytest.mark.parametrize("status", sorted(set(TaskStatus) - {"ready", "pending"}))
def test_only_ready_tasks_are_dispatched(status: str) -> None:
    TaskFactory(status=status)
    assert order() == []


@pytest.mark.parametrize("status", ProjectStatus)
def test_only_active_projects_are_dispatched(status: str) -> None:
    TaskFactory(project=ProjectFactory(status=status), title="a")
    assert order() == (["a"] if status in {"planning", "demo", "building"} else [])


def test_task_waits_for_its_time() -> None:
    TaskFactory(title="later", next_attempt_at=NOW + timedelta(seconds=1))
    assert order() == []
    assert order(now=NOW + timedelta(seconds=1)) == ["later"]


def test_candidate_names_task_project_and_role() -> None:
    task = TaskFactory(role="qa")
    assert queries.dispatchable(now=NOW, limit=5) == [queries.Candidate(task.pk, task.project_id, "qa", room=4)]


def test_priority_orders_within_a_project() -> None:
    project = limited(4)
    tasks_of(project, "low", priority=-1)
    tasks_of(project, "high", priority=5)
    tasks_of(project, "middle")
    assert order() == ["high", "middle", "low"]


def test_of_equals_the_one_that_waits_longer_goes_first() -> None:
    project = limited(4)
    tasks_of(project, "new")
    tasks_of(project, "old", next_attempt_at=NOW - timedelta(minutes=1))
    assert order() == ["old", "new"]


def test_projects_take_turns() -> None:
    for name in "ab":
        tasks_of(limited(4), f"{name}1", f"{name}2", f"{name}3")
    assert [title[1] for title in order()] == ["1", "1", "2", "2", "3", "3"]


def test_low_priority_goes_first_after_it_has_waited_long_enough() -> None:
    project = limited(4)
    tasks_of(project, "low", priority=0, next_attempt_at=NOW - timedelta(minutes=11))
    tasks_of(project, "high", priority=10)
    tasks_of(project, "higher", priority=12)

    assert order() == ["higher", "low", "high"]


def test_priority_of_one_project_is_no_advantage_over_another() -> None:
    tasks_of(limited(4), "a1", "a2", priority=100)
    tasks_of(limited(4), "b1")
    assert order() == ["a1", "b1", "a2"]


def test_project_that_runs_much_comes_later() -> None:
    busy, idle = limited(4), limited(4)
    tasks_of(busy, "x", "y", status="in_progress")
    tasks_of(busy, "busy")
    tasks_of(idle, "idle1", "idle2")
    assert order() == ["idle1", "idle2", "busy"]


@pytest.mark.parametrize("status", ["allocated", "in_progress", "review"])
def test_project_gets_no_more_than_its_squad_allows(status: str) -> None:
    project = limited(2)
    tasks_of(project, "running", status=status)
    tasks_of(project, "a", "b", "c")
    assert order(slack=0) == ["a"]
    assert order(slack=1) == ["a", "b"]


def test_limit_cuts_the_list() -> None:
    tasks_of(limited(9), *"abcde")
    assert order(limit=3) == ["a", "b", "c"]


def test_dispatchable_is_one_statement(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    for _ in range(5):
        tasks_of(limited(4), *"abc")
    with django_assert_num_queries(1):
        assert len(queries.dispatchable(now=NOW, limit=100)) == 15


def test_candidate_tells_how_many_more_its_project_may_have_in_work() -> None:
    first, second, third = (limited(4) for _ in range(3))
    tasks_of(first, "a", "b", status="review")
    tasks_of(first, "c", "d")
    tasks_of(second, "e", status="allocated")
    tasks_of(third, "f")
    found = queries.dispatchable(now=NOW, limit=100)
    assert {(one.project_id, one.room) for one in found} == {(first.pk, 2), (third.pk, 4)}


# -- how far a project is


@pytest.mark.parametrize(
    ("fields", "percent"),
    [
        ({"status": "planning"}, 0),
        ({"status": "demo"}, 15),
        ({"status": "building"}, 40),
        ({"status": "complete"}, 100),
        ({"status": "cancelled"}, 0),
        ({"status": "archived"}, 0),
        ({"status": "archived", "delivered_commit": "abc"}, 100),
        ({"status": "paused", "paused_from": "demo"}, 15),
    ],
)
def test_progress_by_phase(fields: dict[str, str], percent: int) -> None:
    assert queries.progress(ProjectFactory(**fields)) == percent


def test_progress_of_building_grows_with_its_tasks() -> None:
    project = limited(4)
    tasks_of(project, "a", "b", status="completed")
    tasks_of(project, "c", "d")
    tasks_of(project, "demo", kind="demo", status="completed")
    assert queries.progress(project) == 40 + 59 * 2 // 4
    Task.objects.filter(project=project, status="ready").delete()
    assert queries.progress(project) == 99


def test_is_built_when_nothing_is_left_to_build() -> None:
    project = limited(4)
    assert not queries.is_built(project)
    tasks_of(project, "a", status="completed")
    tasks_of(project, "mentor", kind="mentor")
    assert queries.is_built(project)
    tasks_of(project, "b", status="failed")
    assert not queries.is_built(project)


@pytest.mark.parametrize("status", sorted(set(ProjectStatus) - {"building"}))
def test_only_a_building_project_is_built(status: str) -> None:
    task = TaskFactory(project=ProjectFactory(status=status), status="completed")
    assert not queries.is_built(task.project)


# -- what waits for a person


def test_open_approvals_oldest_first() -> None:
    newer = ApprovalFactory(status="escalated", created_at=NOW)
    older = ApprovalFactory(created_at=NOW - timedelta(hours=1))
    for status in set(ApprovalStatus) - OPEN_APPROVAL:
        ApprovalFactory(status=status)
    assert list(queries.open_approvals()) == [older, newer]


def test_open_approvals_come_with_their_projects(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    ApprovalFactory.create_batch(3)
    with django_assert_num_queries(1):
        assert len({approval.project.name for approval in queries.open_approvals()}) == 3


def test_unread_notifications_newest_first() -> None:
    first, second = NotificationFactory(), NotificationFactory()
    NotificationFactory(read_at=NOW)
    assert list(queries.unread_notifications()) == [second, first]


# -- what actions cost


def fan(size: int) -> dict[str, Task]:
    """One task that all others wait for."""
    nodes = [PlannedTask("first", "First", "developer")]
    nodes += [PlannedTask(f"t{number}", "T", "developer", depends_on=("first",)) for number in range(size)]
    return lives.building(nodes)


def completing(size: int) -> list[str]:
    task = lives.begin(fan(size)["first"])
    return statements(lambda: tasks.complete_task(task, {}, by=TESTER, now=NOW))


def test_completing_costs_the_same_however_many_wait() -> None:
    few, many = completing(20), completing(300)
    assert Task.objects.filter(status="ready", kind="build").count() == 320
    assert few == many
    assert len(few) <= 8


def creating(size: int) -> list[str]:
    first = TaskFactory()
    common = {"project": first.project, "plan": first.plan, "kind": "build", "next_attempt_at": NOW, "created_at": NOW}
    made = [Task(key=f"n{number}", status="pending", unmet_count=1, **common) for number in range(size)]
    edges = [TaskDependency(task=task, depends_on=first) for task in made]
    return statements(lambda: tasks.create_build_tasks(first.project, made, edges, by=TESTER, now=NOW))


def test_creating_a_graph_costs_the_same_whatever_its_size() -> None:
    few, many = creating(20), creating(300)
    assert TaskDependency.objects.count() == 320
    assert few == many
    assert len(few) <= 6


def test_squad_of_a_project_is_made_in_two_statements() -> None:
    sql = statements(lambda: lives.planned([PlannedTask("a", "A", "qa")]))
    assert sorted(text for text in sql if "squad" in text) == ["INSERT projects_squad", "INSERT projects_squadmember"]
    assert SquadMember.objects.count() == 10
