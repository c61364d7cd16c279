from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, transaction

from agents.actions import egress
from agents.actions.egress import Seen, Stranger
from agents.gateway.egress import record
from agents.gateway.egress.record import OTHERS, Account, Recorder, load
from agents.models import EgressRecord, Run
from projects.models import AuditLog
from tests.agents.gateway.egress.outside import World, connect_request, wait_for_record, working_run
from tests.agents.gateway.harness import wait_until
from tests.factories import NOW, EgressRecordFactory, RunFactory

StartProxy = Callable[..., World]


def seen(run: Run, host: str = "a.test", **fields: Any) -> Seen:
    plain = {"port": 443, "decision": "allowed", "reason": "", "requests": 1, "first_at": NOW, "last_at": NOW}
    return Seen(run.pk, host, **(plain | fields))


def audited(action: str) -> list[dict[str, Any]]:
    return [row.details for row in AuditLog.objects.filter(action=action).order_by("seq")]


@pytest.mark.django_db
class TestRecord:
    def test_adds_to_the_row_and_audits_it_once(self) -> None:
        run = RunFactory(status="running")
        later = NOW + timedelta(seconds=5)

        egress.record([seen(run, bytes_up=1, bytes_down=10)], [], now=NOW)
        egress.record([seen(run, bytes_up=2, bytes_down=20, requests=3, last_at=later)], [], now=later)

        row = EgressRecord.objects.get()
        assert (row.requests, row.bytes_up, row.bytes_down) == (4, 3, 30)
        assert (row.first_at, row.last_at) == (NOW, later)
        assert audited("egress.allowed") == [{"host": "a.test", "port": 443, "reason": ""}]

    def test_audits_a_refusal_on_the_projects_chain_by_the_proxy(self) -> None:
        run = RunFactory(status="running")

        egress.record([seen(run, decision="refused", reason="not_listed")], [], now=NOW)

        row = AuditLog.objects.get(action="egress.refused")
        assert (row.project_id, row.agent_id, row.object_id) == (run.project_id, run.agent_id, str(run.pk))
        assert (row.actor_kind, row.actor_name) == ("system", "egress")

    def test_audits_strangers_on_the_accounts_chain(self) -> None:
        egress.record([], [Stranger("172.30.0.2", "unknown_token", 7)], now=NOW)

        assert AuditLog.objects.get(action="egress.refused").chain == "account"
        assert audited("egress.refused") == [{"from": "172.30.0.2", "reason": "unknown_token", "requests": 7}]

    def test_leaves_out_runs_that_are_gone(self) -> None:
        gone, run = RunFactory(status="running"), RunFactory(status="running")
        batch = [seen(gone), seen(run)]
        gone.delete()

        egress.record(batch, [], now=NOW)

        assert [row.run_id for row in EgressRecord.objects.all()] == [run.pk]

    def test_is_undone_as_a_whole(self) -> None:
        run = RunFactory(status="running")
        batch = [seen(run), seen(run, decision="refused", reason="")]

        with pytest.raises(IntegrityError), transaction.atomic():
            egress.record(batch, [], now=NOW)

        assert not EgressRecord.objects.exists()
        assert not audited("egress.allowed")

    @pytest.mark.parametrize(("decision", "reason"), [("allowed", "not_listed"), ("refused", ""), ("failed", "")])
    def test_the_database_wants_a_reason_for_what_was_not_reached(self, decision: str, reason: str) -> None:
        with pytest.raises(IntegrityError), transaction.atomic():
            EgressRecordFactory(decision=decision, reason=reason)

    def test_load_gives_what_earlier_processes_recorded(self) -> None:
        run = RunFactory(status="running")
        EgressRecordFactory(run=run, host="a.test", bytes_up=5, bytes_down=7)
        EgressRecordFactory(run=run, host="b.test", decision="refused", bytes_down=1)
        EgressRecordFactory(bytes_up=1_000)

        account = load(run.pk)

        assert account.bytes_moved == 13
        assert account.known == {("a.test", 443, "allowed", ""), ("b.test", 443, "refused", "not_listed")}


class _Failing:
    """A database that is away once."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.is_away = True

    async def call(self, function: Any, *args: Any, **kwargs: Any) -> None:
        if self.is_away:
            self.is_away = False
            raise OperationalError("away")
        self.written.append(args)


async def test_what_could_not_be_written_is_written_with_what_came_since() -> None:
    database = _Failing()
    recorder = Recorder(database)  # type: ignore[arg-type]
    account = Account(RunFactory.build(agent=None, task=None, project=None, attempt=1).pk)
    noted = recorder.note(account, "a.test", 443)
    recorder.move(account, noted, up=3)
    recorder.note_stranger("10.0.0.1", "no_token")

    await recorder.flush()
    recorder.note(account, "a.test", 443)
    recorder.move(account, noted, up=4)
    await recorder.flush()

    ((batch, strangers),) = database.written
    assert [(one.host, one.requests, one.bytes_up) for one in batch] == [("a.test", 2, 7)]
    assert [(one.peer, one.count) for one in strangers] == [("10.0.0.1", 1)]
    assert account.bytes_moved == 7
    assert batch[0].last_at <= datetime.now(UTC)


def test_asking_for_ever_new_hosts_fills_one_row(start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "MOST_HOSTS", 3)
    run, token = working_run()
    world = start_proxy({})

    for number in range(8):
        world.send(connect_request(f"host{number}.test:443", token))

    wait_for_record(run, (OTHERS, 0, "refused", "not_listed"))
    wait_until(lambda: EgressRecord.objects.get(run=run, host=OTHERS).requests == 5)
    assert EgressRecord.objects.filter(run=run).count() == 4
    assert len(audited("egress.refused")) == 4


def test_a_forged_token_leaves_an_audit_row(start_proxy: StartProxy) -> None:
    world = start_proxy({})

    for _ in range(3):
        world.send(connect_request("a.test:443", "ekr_forged"))

    wait_until(lambda: audited("egress.refused"))
    assert audited("egress.refused")[0]["from"] == "127.0.0.1"
    assert audited("egress.refused")[0]["reason"] == "unknown_token"
    assert "ekr_forged" not in str(audited("egress.refused"))
