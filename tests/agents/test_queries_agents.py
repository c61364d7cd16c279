import pytest

from agents.errors import UnknownToken
from agents.queries import run_by_token
from agents.states import ACTIVE_RUN, RunStatus
from agents.tokens import hash_token, new_token
from tests.factories import RunFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("status", sorted(ACTIVE_RUN))
def test_a_token_leads_to_its_active_run(status: RunStatus, django_assert_num_queries: object) -> None:
    token = new_token()
    run = RunFactory(status=status, token_hash=hash_token(token))
    RunFactory(status=status)

    with django_assert_num_queries(1):  # type: ignore[operator]
        found = run_by_token(token)
        assert (found, found.task, found.project, found.agent) == (run, run.task, run.project, run.agent)


@pytest.mark.parametrize("status", sorted(set(RunStatus) - ACTIVE_RUN))
def test_no_token_leads_to_a_run_that_has_ended(status: RunStatus) -> None:
    RunFactory(status=status)

    # Ended runs keep no token; the empty one is nobody's.
    for token in (new_token(), ""):
        with pytest.raises(UnknownToken):
            run_by_token(token)


def test_a_hash_is_no_token() -> None:
    run = RunFactory(status="running")

    with pytest.raises(UnknownToken):
        run_by_token(run.token_hash)
