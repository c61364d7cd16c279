"""What is seen of an agent that gets nowhere, without asking a model."""

import os
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from agents.actions.transcript import Line
from agents.models import RunEvent
from agents.supervisor import progress
from agents.supervisor.progress import Progress, digest_of_files
from tests.factories import NOW

_ids = count()
MINUTE = timedelta(minutes=1)


def call(name: str = "Bash", answer: str = "same", **given: object) -> list[Line]:
    key = f"t{next(_ids)}"
    return [
        Line(RunEvent.Kind.TOOL_USE, {"id": key, "name": name, "input": given}, NOW),
        Line(RunEvent.Kind.TOOL_RESULT, {"id": key, "content": answer, "is_error": False}, NOW),
    ]


def talk(seen: Progress, *calls: list[Line]) -> str:
    for lines in calls:
        seen.take(lines)
    stuck = seen.circling()
    return stuck.detail if stuck else ""


def test_equal_calls_with_equal_answers_are_a_circle() -> None:
    seen = Progress(calls=4)

    assert talk(seen, *(call(command="ls") for _ in range(3))) == ""
    assert talk(seen, call(command="ls")) == "The agent made the same calls, last Bash, 4 times in a row."


@pytest.mark.parametrize("names", [("Read", "Grep"), ("Read", "Grep", "Bash")])
def test_a_circle_may_have_several_calls(names: tuple[str, ...]) -> None:
    seen = Progress(calls=4)

    assert talk(seen, *(call(name) for _ in range(3) for name in names)) == ""
    assert "4 times" in talk(seen, *(call(name) for name in names))


def test_answers_that_differ_are_given_more_time() -> None:
    seen = Progress(calls=4)

    assert talk(seen, *(call(command="date", answer=str(n)) for n in range(19))) == ""
    assert "20 times, whatever came back" in talk(seen, call(command="date", answer="end"))


def test_calls_that_differ_are_work() -> None:
    assert talk(Progress(calls=4), *(call(command=f"make test-{n}") for n in range(200))) == ""


def test_something_else_in_between_begins_anew() -> None:
    three = [call(command="ls") for _ in range(3)]

    assert talk(Progress(calls=4), *three, call("Edit"), *three) == ""


def test_what_is_said_of_progress_is_none() -> None:
    rounds = [(call("mcp__eklavya__report_progress", note=n), call(command="ls")) for n in range(4)]

    assert "4 times in a row" in talk(Progress(calls=4), *(lines for one in rounds for lines in one))


def test_it_can_be_switched_off() -> None:
    seen = Progress(calls=0, no_diff=timedelta(0), look=lambda: "x")

    assert talk(seen, *(call(command="ls") for _ in range(500))) == ""
    assert not seen.is_time_to_look(NOW)


def test_a_role_that_writes_nothing_cannot_stand_still() -> None:
    assert not Progress(no_diff=MINUTE).is_time_to_look(NOW)


def test_files_that_stay_as_they_are_for_too_long() -> None:
    files = ["a"]
    seen = Progress(no_diff=10 * MINUTE, look=lambda: files[0])

    assert seen.is_time_to_look(NOW)
    assert seen.standing_still(NOW) is None
    assert not seen.is_time_to_look(NOW + MINUTE / 2)
    assert seen.standing_still(NOW + 9 * MINUTE) is None
    files[0] = "b"
    assert seen.standing_still(NOW + 11 * MINUTE) is None
    stuck = seen.standing_still(NOW + 21 * MINUTE)
    assert stuck is not None
    assert (stuck.reason, stuck.detail) == ("no_diff", "The agent changed no file for 10 minutes.")
    files[0] = ""  # not to be seen: no reason to end it
    assert seen.standing_still(NOW + 60 * MINUTE) is None


def test_each_change_of_files_is_seen_and_nothing_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert digest_of_files(tmp_path / "none") == ""
    (tmp_path / "src").mkdir()
    one = tmp_path / "src" / "one.py"
    one.write_text("1")
    seen = [digest_of_files(tmp_path)]
    assert digest_of_files(tmp_path) == seen[0]

    os.utime(one, ns=(1, 1))
    seen.append(digest_of_files(tmp_path))
    (tmp_path / "src" / "two.py").symlink_to("/etc/passwd")
    seen.append(digest_of_files(tmp_path))
    (tmp_path / ".git" / "logs").mkdir(parents=True)
    (tmp_path / ".git" / "index").write_text("what Git does for itself is no progress")
    assert digest_of_files(tmp_path) == seen[-1]
    (tmp_path / ".git" / "logs" / "HEAD").write_text("a commit is")
    seen.append(digest_of_files(tmp_path))

    assert len(set(seen)) == len(seen)
    monkeypatch.setattr(progress, "MOST_FILES", 2)
    assert digest_of_files(tmp_path) == ""
