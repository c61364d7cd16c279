"""Locking tasks together with those that depend on them: the right ones, whatever else there is."""

import pytest

from projects.actions.tasks import locked_with_dependents
from tests.factories import TaskFactory

pytestmark = pytest.mark.django_db


def test_they_and_those_that_depend_on_them_in_one_order() -> None:
    first, second, other = TaskFactory.create_batch(3)
    waiting = TaskFactory(project=first.project, depends_on=[first], status="pending")
    TaskFactory(project=first.project, depends_on=[waiting], status="pending")
    TaskFactory(project=other.project, depends_on=[other], status="pending")

    locked = [task.pk for task in locked_with_dependents([second.pk, first.pk])]
    assert locked == sorted([first.pk, second.pk, waiting.pk])
    assert list(locked_with_dependents([])) == []


def test_it_looks_at_no_other_task() -> None:
    task = TaskFactory()

    plan = locked_with_dependents([task.pk]).explain()

    # A filter of that kind is asked of every task that there is.
    assert "SubPlan" not in plan, plan
