"""Runs: a project's list, and one run live."""

import pytest
from django.test import Client
from django.urls import reverse

from agents import pages
from agents.models import Run, RunEvent
from agents.states import RunStatus
from projects.ids import new_id
from projects.states import TaskStatus
from tests.factories import (
    EgressRecordFactory,
    RunEventFactory,
    RunFactory,
    TaskFactory,
    UserFactory,
    VerificationFactory,
    WorkerFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin_in(client: Client) -> Client:
    client.force_login(UserFactory(username="asha", is_superuser=True))
    return client


def run_with_lines(count: int, status: RunStatus = RunStatus.RUNNING) -> Run:
    run = RunFactory(status=status)
    for number in range(1, count + 1):
        RunEventFactory(run=run, seq=number, payload={"text": f"line {number}."})
    Run.objects.filter(pk=run.pk).update(last_seq=count)
    return run


def test_runs_shows_only_what_the_filter_asks_for(admin_in: Client) -> None:
    task = TaskFactory(title="Row the boat", status=TaskStatus.READY)
    RunFactory(task=task, status=RunStatus.FAILED, reason="tests_failed")

    failed = admin_in.get(reverse("project_runs", args=[task.project_id]), {"show": "failed"}).content.decode()
    active = admin_in.get(reverse("project_runs", args=[task.project_id]), {"show": "active"}).content.decode()

    assert "Row the boat" in failed
    assert "Tests failed" in failed
    assert 'data-empty="filtered"' in active


def test_run_shows_its_transcript(admin_in: Client) -> None:
    page = admin_in.get(reverse("run", args=[run_with_lines(3).pk])).content.decode()

    assert page.count("data-entry") == 3
    assert "?after=3" in page


def test_run_whose_transcript_was_dropped_says_so_and_asks_no_more(admin_in: Client) -> None:
    run = RunFactory(status="succeeded", last_seq=7)
    page = admin_in.get(f"/runs/{run.pk}/").content.decode()
    assert "past the time that transcripts are kept" in page
    assert 'hx-trigger="load"' not in page


def test_run_gives_the_lines_since_then_and_where_to_go_on(admin_in: Client) -> None:
    run = run_with_lines(5)

    part = admin_in.get(reverse("run", args=[run.pk]), {"after": "3"}).content.decode()

    assert part.count("data-entry") == 2
    assert "line 4." in part
    assert "?after=5" in part


def test_run_without_news_asks_again_from_the_same_line(admin_in: Client) -> None:
    run = run_with_lines(2)

    part = admin_in.get(reverse("run", args=[run.pk]), {"after": "2"}).content.decode()

    assert "data-entry" not in part
    assert "?after=2" in part


def test_run_asks_at_once_while_more_lines_wait(admin_in: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "BATCH", 2)
    run = run_with_lines(5)

    part = admin_in.get(reverse("run", args=[run.pk]), {"after": "0"}).content.decode()

    assert part.count("data-entry") == 2
    assert 'hx-trigger="load"' in part


def test_a_long_transcript_begins_with_its_end(admin_in: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "TAIL", 2)
    run = run_with_lines(5)

    page = admin_in.get(reverse("run", args=[run.pk])).content.decode()
    earlier = admin_in.get(reverse("run", args=[run.pk]), {"before": "4"}).content.decode()

    assert "line 5." in page
    assert "line 3." not in page
    assert "?before=4" in page
    assert earlier.index("line 2.") < earlier.index("line 3.")


@pytest.mark.parametrize("query", [{"after": "x"}, {"after": "-1"}, {"before": ""}, {"after": "9" * 30}])
def test_run_has_no_such_line(admin_in: Client, query: dict[str, str]) -> None:
    assert admin_in.get(reverse("run", args=[run_with_lines(1).pk]), query).status_code == 404


def test_no_such_run(admin_in: Client) -> None:
    assert admin_in.get(reverse("run", args=[new_id()])).status_code == 404


def test_run_shows_why_it_failed_and_what_was_observed(admin_in: Client) -> None:
    run = RunFactory(status=RunStatus.FAILED, reason="tests_failed", detail="1 of 8 tests failed")
    VerificationFactory(project=run.project, run=run, passed=False, reason="tests_failed", test_output="F..")

    page = admin_in.get(reverse("run", args=[run.pk])).content.decode()

    assert "1 of 8 tests failed" in page
    assert "Refused" in page
    assert "F.." in page


@pytest.mark.parametrize("kind", RunEvent.Kind.values)
@pytest.mark.parametrize("payload", [{"text": "<script>x</script>"}, {}, {"content": [{"text": "<b>"}]}, [1], "bare"])
def test_every_kind_of_line_shows_whatever_it_holds_as_text(admin_in: Client, kind: str, payload: object) -> None:
    run = RunFactory(status=RunStatus.RUNNING)
    RunEventFactory(run=run, kind=kind, payload=payload)

    page = admin_in.get(reverse("run", args=[run.pk])).content.decode()

    assert page.count("data-entry") == 1
    assert "<script>x" not in page


def test_the_page_costs_the_same_for_many_lines(
    admin_in: Client, django_assert_max_num_queries: pytest.FixtureRequest
) -> None:
    run = run_with_lines(120)

    with django_assert_max_num_queries(12):
        admin_in.get(reverse("run", args=[run.pk]))


def test_task_shows_attempts_and_neighbours(admin_in: Client) -> None:
    first = TaskFactory(title="Store boats", status=TaskStatus.COMPLETED)
    task = TaskFactory(project=first.project, title="Show boats", depends_on=[first])
    later = TaskFactory(project=first.project, title="Sell boats", status=TaskStatus.PENDING, depends_on=[task])
    RunFactory(task=task, status=RunStatus.LOST, detail="Its supervisor died.")

    detail = admin_in.get(reverse("task", args=[task.pk])).context["detail"]

    assert detail.waits_for == [first]
    assert detail.waited_by == [later]
    assert [run.detail for run in detail.runs] == ["Its supervisor died."]


def test_a_conflict_and_the_task_it_belongs_to_show_each_other(admin_in: Client) -> None:
    task = TaskFactory(
        title="Show boats", status=TaskStatus.BLOCKED, reason="awaiting_merge", detail="Others came first."
    )
    conflict = TaskFactory(project=task.project, kind="conflict", parent=task, title="Resolve it")

    for shown, other in ((task, conflict), (conflict, task)):
        page = admin_in.get(reverse("task", args=[shown.pk])).content.decode()
        assert reverse("task", args=[other.pk]) in page
        assert other.title in page
        assert ("Checking" in page, "Awaiting merge" in page) == (True, shown == task)


def test_agents_shows_who_works_on_what(admin_in: Client) -> None:
    run = RunFactory(status=RunStatus.RUNNING)

    rows = admin_in.get(reverse("agents")).context["rows"]

    assert [(agent.pk, current.pk) for agent, current, _ in rows] == [(run.agent_id, run.pk)]


def test_workers_warns_when_nobody_listens(admin_in: Client) -> None:
    TaskFactory(status=TaskStatus.READY)

    page = admin_in.get(reverse("workers")).content.decode()

    assert "No worker is listening" in page
    assert "1 task waits" in page


def test_workers_says_which_ones_isolate_nothing(admin_in: Client) -> None:
    WorkerFactory(name="house-1", runtime="local")
    WorkerFactory(name="house-2", runtime="docker")

    page = admin_in.get(reverse("workers")).content.decode()

    assert "No worker is listening" not in page
    assert page.count("Agents run as plain processes on that machine.") == 1


def test_run_says_how_many_hosts_it_asked_for(admin_in: Client) -> None:
    run = RunFactory(status=RunStatus.RUNNING)
    EgressRecordFactory(run=run)
    EgressRecordFactory(run=run, decision="refused")
    EgressRecordFactory()

    assert "2 hosts, 1 refused" in admin_in.get(reverse("run", args=[run.pk])).content.decode()
    assert "Network" not in admin_in.get(reverse("run", args=[RunFactory().pk])).content.decode()


def test_run_lists_the_hosts_it_asked_for_in_pages(admin_in: Client) -> None:
    run = RunFactory(status=RunStatus.RUNNING)
    hosts = [EgressRecordFactory(run=run, bytes_down=2_048).host for _ in range(55)]
    EgressRecordFactory(run=run, host="evil.test", decision="refused", reason="not_listed", port=22)
    other = EgressRecordFactory().host
    address = reverse("run", args=[run.pk])

    first = admin_in.get(address, {"show": "egress"})
    older = admin_in.get(first.context["page"].next_url)

    text = first.content.decode()
    assert "evil.test:22" in text
    assert "Not listed" in text
    shown = [row.host for response in (first, older) for row in response.context["page"].items]
    assert sorted(shown) == sorted([*hosts, "evil.test"])
    assert other not in shown


def test_run_without_a_record_says_so(admin_in: Client) -> None:
    page = admin_in.get(reverse("run", args=[RunFactory().pk]), {"show": "egress"}).content.decode()

    assert "It asked for no host" in page
