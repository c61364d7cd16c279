"""What `manage.py rehearse` says around the rehearsal itself."""

import io
from decimal import Decimal

import pytest
from django.core.management import call_command
from rich.console import Console

from eklavya.management.commands.rehearse import Command
from eklavya.rehearse.driver import Outcome
from eklavya.rehearse.timeline import Timeline


def test_no_projects_are_refused() -> None:
    err = io.StringIO()
    with pytest.raises(SystemExit) as caught:
        call_command("rehearse", projects=0, stderr=err)
    assert caught.value.code == 1
    assert err.getvalue() == "eklavya: --projects 0: run at least one\n"


@pytest.mark.parametrize("simulated", [True, False])
def test_cost_that_nobody_pays_is_called_simulated(simulated: bool) -> None:
    out = io.StringIO()
    outcome = Outcome("id", "Cakes", "complete", 1.0, cost=Decimal("1.5"), simulated=simulated)
    Timeline(Console(file=out), several=False).conclude([outcome])
    assert ("1.5 USD simulated, equal to its ledger" in out.getvalue()) is simulated
    assert "1.5 USD" in out.getvalue()


@pytest.mark.parametrize(("is_ours", "said"), [(True, "`make run` serves portal and previews again\n"), (False, "")])
def test_servers_that_stop_are_announced(is_ours: bool, said: str) -> None:
    err = io.StringIO()
    Command(stderr=err)._after(is_ours=is_ours, keep=False)
    assert err.getvalue().endswith(said)
    assert bool(err.getvalue()) is is_ours
