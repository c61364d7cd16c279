import pytest

from agents.actions.transcript import Line, record_lines
from agents.errors import LeaseLost
from agents.models import Run, RunEvent
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
