"""Saving on a remote worker: nothing is saved rather than the beginning, which the next agent would take for work."""

import pytest

from agents.actions import verbs
from agents.errors import VerbRefused
from agents.models import Checkpoint
from tests.agents.remote.joined import Machine
from tests.factories import NOW, RunFactory

pytestmark = pytest.mark.django_db


def test_an_agent_there_is_told_that_nothing_is_saved_before_the_end(machine: Machine) -> None:
    run = RunFactory(status="running", worker=machine.worker)
    with pytest.raises(VerbRefused, match="saved when you end"):
        verbs.save_checkpoint(run, "Only the README is left.", now=NOW)
    assert not Checkpoint.objects.exists()
