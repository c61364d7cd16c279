import pytest
from django.db import DataError, IntegrityError, transaction
from pytest_django import DjangoAssertNumQueries

from projects.bulk import insert_all, update_each
from projects.errors import IllegalTransition, StaleState
from projects.models import Task
from projects.states import TASK_TRANSITIONS, TaskStatus
from projects.transitions import step_all
from tests.factories import NOW, TaskFactory

pytestmark = pytest.mark.django_db


def test_each_row_gets_its_own_value_and_the_common_ones(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    tasks = TaskFactory.create_batch(3)
    untouched = TaskFactory()
    contexts = [{"said": f"it's {number} %s"} for number in range(3)]
    each = {"context": contexts, "started_at": [NOW, None, NOW], "detail": ["a", "", "ü\\'"]}

    with django_assert_num_queries(1):
        found = update_each(
            Task, [task.pk for task in tasks], each=each, where={"status": TaskStatus.READY}, reason="same"
        )

    assert found == {task.pk for task in tasks}
    rows = Task.objects.in_bulk()
    assert [rows[task.pk].context for task in tasks] == contexts
    assert [rows[task.pk].started_at for task in tasks] == [NOW, None, NOW]
    assert [rows[task.pk].detail for task in tasks] == ["a", "", "ü\\'"]
    assert [rows[task.pk].reason for task in (*tasks, untouched)] == ["same", "same", "same", untouched.reason]


def test_rows_that_are_not_as_asked_stay() -> None:
    ready, done = TaskFactory(), TaskFactory(status=TaskStatus.COMPLETED)
    where = {"status": TaskStatus.READY}

    assert update_each(Task, [ready.pk, done.pk], each={"detail": ["a", "b"]}, where=where) == {ready.pk}

    done.refresh_from_db()
    assert done.detail != "b"


@pytest.mark.parametrize("count", [2, 40])
def test_new_rows_are_saved_as_they_are(count: int, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    other = TaskFactory()
    texts = ["\\N", "tab\tline\n\\", "", "ü'\"%s", "\\."]
    new = [
        TaskFactory.build(
            project=other.project,
            plan=other.plan,
            key=f"t-{number}",
            title=f"{texts[number % 5]} {number}",
            detail=texts[number % 5],
            context={"said": texts[number % 5], "none": None, "half": 0.5},
            started_at=NOW if number % 2 else None,
        )
        for number in range(count)
    ]

    with django_assert_num_queries(1):
        insert_all(Task, new)

    rows = Task.objects.in_bulk()
    assert not any(task._state.adding for task in new)
    for task in new:
        assert _values(rows[task.pk]) == _values(task)
    with pytest.raises(IntegrityError), transaction.atomic():
        insert_all(Task, new)


def _values(task: Task) -> dict[str, object]:
    return {field.name: getattr(task, field.attname) for field in Task._meta.concrete_fields}


def test_what_is_too_long_is_refused_and_not_cut() -> None:
    with pytest.raises(DataError), transaction.atomic():
        update_each(Task, [TaskFactory().pk], each={"title": ["x" * 5000]}, where={})


def test_nothing_is_a_value_too() -> None:
    begun, waiting = TaskFactory(started_at=NOW), TaskFactory(started_at=None)

    found = update_each(Task, [begun.pk, waiting.pk], each={"detail": ["a", "b"]}, where={"started_at": None})

    assert found == {waiting.pk}


def test_all_step_or_none() -> None:
    ready, gone = TaskFactory.create_batch(2)
    Task.objects.filter(pk=gone.pk).update(status=TaskStatus.CANCELLED, reason="gone")

    with pytest.raises(StaleState, match="not ready any more"):
        step_all([ready, gone], TaskStatus.ALLOCATED, table=TASK_TRANSITIONS)
    with pytest.raises(IllegalTransition):
        step_all([TaskFactory(status=TaskStatus.COMPLETED)], TaskStatus.ALLOCATED, table=TASK_TRANSITIONS)

    assert ready.status == TaskStatus.READY, "the object says what the caller's transaction will leave"
