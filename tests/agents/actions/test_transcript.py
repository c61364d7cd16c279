import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents import tool_calls
from agents.actions.transcript import Line, record_lines
from agents.errors import LeaseLost
from agents.models import Run, RunEvent
from projects.models import AuditLog
from tests.factories import NOW, RunFactory

pytestmark = pytest.mark.django_db


def lines(*texts: str) -> list[Line]:
    return [Line(RunEvent.Kind.TEXT, {"text": text}, NOW) for text in texts]


def stored(run: Run) -> list[tuple[int, str]]:
    return [(event.seq, event.payload["text"]) for event in RunEvent.objects.filter(run=run).order_by("seq")]


def test_lines_get_their_numbers_in_order() -> None:
    run = RunFactory(status="running")

    record_lines(run, lines("a", "b"))
    record_lines(run, [])
    record_lines(run, lines("c"))

    run.refresh_from_db()
    assert stored(run) == [(1, "a"), (2, "b"), (3, "c")]
    assert run.last_seq == 3


def test_lines_that_were_stored_already_are_not_stored_again() -> None:
    run = RunFactory(status="running")
    twin = Run.objects.get(pk=run.pk)  # did not hear that it worked
    record_lines(run, lines("a", "b"))

    record_lines(twin, lines("a", "b", "c"))

    assert stored(run) == [(1, "a"), (2, "b"), (3, "c")]


@pytest.mark.parametrize("change", [{"lease_owner": "elsewhere"}, {"status": "lost"}])
def test_nothing_is_stored_without_the_lease(change: dict[str, str]) -> None:
    run = RunFactory(status="running")
    values = {"token_hash": "", "finished_at": NOW} if "status" in change else {}
    Run.objects.filter(pk=run.pk).update(**change, **values)

    with pytest.raises(LeaseLost):
        record_lines(run, lines("a"))

    assert stored(run) == []


def test_long_and_odd_texts_are_cut_and_kept() -> None:
    run = RunFactory(status="running")

    record_lines(run, lines("x" * 200_000, "nul \0 and half \ud800"))

    (_, long), (_, odd) = stored(run)
    assert len(long) < 110_000
    assert odd.startswith("nul ")


def call(name: str = "Bash", **arguments: object) -> Line:
    return Line(RunEvent.Kind.TOOL_USE, {"id": "toolu_1", "name": name, "input": arguments}, NOW)


def calls_of(run: Run) -> list[AuditLog]:
    return list(AuditLog.objects.filter(action="tool.called", object_id=str(run.pk)).order_by("seq"))


def test_tool_calls_are_audited_with_a_digest_of_what_the_transcript_has() -> None:
    run = RunFactory(status="running")

    record_lines(run, [*lines("a"), call(command="npm test\n --all", timeout=2.5), call("Read", file_path="/a.py")])

    event = RunEvent.objects.get(run=run, seq=2)
    first, second = calls_of(run)
    assert first.details == {
        "line": 2,
        "tool": "Bash",
        "call": "toolu_1",
        "input_sha256": tool_calls.input_digest(event.payload["input"]),
        "summary": "npm test --all",
    }
    assert (second.details["line"], second.details["summary"]) == (3, "/a.py")
    assert (first.project_id, first.agent_id, first.actor_kind) == (run.project_id, run.agent_id, "agent")


def test_a_batch_is_one_append_however_many_calls() -> None:
    run = RunFactory(status="running")
    record_lines(run, [call(command="first")])  # makes the chain, and knows the agent
    with CaptureQueriesContext(connection) as of_one:
        record_lines(run, [call(command="one")])
    with CaptureQueriesContext(connection) as of_many:
        record_lines(run, [call(command=str(number)) for number in range(50)])
    with CaptureQueriesContext(connection) as of_none:
        record_lines(run, lines("a"))

    assert len(of_many) == len(of_one)
    assert not [one for one in of_none if "audit" in one["sql"]]


def test_calls_that_were_audited_already_are_not_audited_again() -> None:
    run = RunFactory(status="running")
    twin = Run.objects.get(pk=run.pk)
    record_lines(run, [call(command="a"), call(command="b")])

    record_lines(twin, [call(command="a"), call(command="b"), call(command="c")])

    assert [row.details["summary"] for row in calls_of(run)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "text",
    [
        "curl -H 'Authorization: Bearer {}' https://a.example",
        "export API_KEY={} && run",
        "psql postgres://user:{}@db.example/x",
        "git push https://{}@git.example/x.git",
        "deploy --password {} --fast",
        'echo "{{\\"token\\": \\"{}\\"}}"',
    ],
)
def test_what_looks_like_a_key_is_not_in_the_audit_row(text: str) -> None:
    secret = "hunter2hunter2hunter2"
    run = RunFactory(status="running")
    record_lines(run, [call(command=text.format(secret))])
    (row,) = calls_of(run)
    assert secret not in str(row.details)
    assert "***" in row.details["summary"]


def test_keys_that_name_themselves_are_masked_wherever_they_stand() -> None:
    key = "sk-ant-" + "api03-" + "x" * 60
    assert tool_calls.summary({"command": f"echo {'a' * 120} {key}"}) == f"echo {'a' * 120} ***"
    assert tool_calls.summary({"odd": key}) == "***"


@pytest.mark.parametrize("payload", [{}, {"input": 3}, {"name": None, "input": ["x"]}, {"input": {"a": {"b": 1}}}])
def test_calls_of_any_shape_are_described(payload: dict[str, object]) -> None:
    assert len(tool_calls.described(payload)["input_sha256"]) == 64


def test_nothing_is_audited_without_the_lease() -> None:
    run = RunFactory(status="running")
    Run.objects.filter(pk=run.pk).update(lease_owner="elsewhere")
    with pytest.raises(LeaseLost):
        record_lines(run, [call(command="a")])
    assert calls_of(run) == []
