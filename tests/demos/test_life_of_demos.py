"""No sequence of calls leads a project's demos to an illegal state.

Hypothesis drives them through their actions, against PostgreSQL: right and wrong calls, on fresh rows and on copies
read long ago, while the project is paused, resumed and perhaps cancelled.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import pytest
from django.db import models
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from demos import actions
from demos.addresses import new_token
from demos.errors import Reason
from demos.models import Demo
from demos.states import DEMO_TRANSITIONS, DemoStatus
from projects.actions import approvals, projects
from projects.models import Approval, AuditChain, Project
from projects.states import OPEN_APPROVAL, ProjectStatus, TaskKind, TaskStatus
from tests.demos.making import ADMIN, COMMIT, NOW, complete_demo_task, make_project
from tests.projects import lives
from tests.stateful import Watched, explore

WHO: Any = {"by": ADMIN, "now": NOW}
PICK = st.integers(0, 1_000)


class Demos(Watched):
    """A project whose plan is approved, and whatever happens to its demos."""

    tables: ClassVar[dict[type[models.Model], Any]] = {Demo: DEMO_TRANSITIONS}

    @initialize()
    def begin(self) -> None:
        self.enter()
        self.project = make_project()
        self.copies: list[Demo] = []
        self.verbs: dict[str, Callable[[Demo], object]] = {
            "ready": lambda demo: actions.mark_ready(demo, sandbox="demo-1", address="127.0.0.1:1", **WHO),
            "fail": lambda demo: actions.mark_failed(demo, Reason.DID_NOT_ANSWER, "Nobody there.", **WHO),
            "expire": lambda demo: actions.expire_demo(demo, **WHO),
            "extend": lambda demo: actions.extend_demo(demo, days=3, **WHO),
            "revoke": lambda demo: actions.revoke_demo(demo, **WHO),
            "readdress": lambda demo: actions.revoke_demo(demo, new_token=new_token(), **WHO),
            "remark": lambda demo: actions.give_feedback(demo, "Larger.", **WHO),
            "preview": lambda demo: actions.record_preview(demo, sandbox="demo-2", address="127.0.0.1:2", **WHO),
            "stop": lambda demo: actions.record_stopped(demo, **WHO),
            "trouble": lambda demo: actions.record_trouble(demo, "No daemon.", **WHO),
        }
        self.build(is_shown=True)

    def _fresh(self) -> Project:
        return Project.objects.get(pk=self.project.pk)

    def _demos(self) -> list[Demo]:
        return list(Demo.objects.select_related("project").order_by("demo_number"))

    @rule(is_shown=st.booleans())
    def build(self, is_shown: bool) -> None:
        project = self._fresh()
        waiting = project.tasks.filter(kind=TaskKind.DEMO, status=TaskStatus.READY)
        if waiting.exists() and project.is_active:
            task = complete_demo_task(project)
            self.attempt(partial(actions.open_demo, task, commit=COMMIT, summary="It sells.", token=new_token(), **WHO))
            if is_shown:
                self.attempt(partial(self.verbs["ready"], self._demos()[-1]))

    @rule(pick=PICK, verb=st.sampled_from(
        ["ready", "fail", "expire", "extend", "revoke", "readdress", "remark", "preview", "stop", "trouble"]
    ), is_stale=st.booleans())  # fmt: skip
    def do_anything(self, pick: int, verb: str, is_stale: bool) -> None:
        found = self.copies if is_stale else self._demos()
        if found:
            self.attempt(partial(self.verbs[verb], found[-1 - pick % len(found)]))

    @rule(
        pick=PICK,
        option=st.sampled_from(["approve", "amend", "amend", "reject"]),
        comment=st.sampled_from(["Blue.", ""]),
    )
    def decide(self, pick: int, option: str, comment: str) -> None:
        asked = list(Approval.objects.filter(kind="demo").order_by("pk"))
        if asked:
            wanted = approvals.Decision(option, comment)
            self.attempt(partial(approvals.decide, asked[-1 - pick % len(asked)].pk, wanted, **WHO))

    @rule()
    def keep_copies(self) -> None:
        self.copies = self._demos()

    @rule(verb=st.sampled_from(["pause", "resume", "resume", "cancel"]), really=st.integers(0, 3))
    def steer_project(self, verb: str, really: int) -> None:
        if verb == "cancel" and really:
            return
        about = {} if verb == "resume" else {"reason": ""}
        self.attempt(partial(getattr(projects, f"{verb}_project"), self._fresh(), **WHO, **about))

    # -- what always holds

    @invariant()
    def a_demo_has_what_belongs_to_its_status(self) -> None:
        for demo in self._demos():
            is_decided = not DEMO_TRANSITIONS[DemoStatus(demo.status)]
            assert is_decided == (demo.decided_at is not None), demo.status
            assert (demo.status == DemoStatus.APPROVED) == (demo.approved_at is not None), demo.status
            assert demo.status != DemoStatus.EXPIRED or demo.reason
            assert demo.status not in {DemoStatus.READY, DemoStatus.APPROVED} or (demo.commit and demo.ready_at)

    @invariant()
    def what_waits_for_a_decision_is_asked_about(self) -> None:
        asked = Approval.objects.filter(kind="demo", status__in=OPEN_APPROVAL)
        shown = {demo.pk for demo in self._demos() if demo.status == DemoStatus.READY}
        is_given_up = self._fresh().status == ProjectStatus.CANCELLED
        assert sorted(asked.values_list("subject_id", flat=True)) == ([] if is_given_up else sorted(shown))

    @invariant()
    def what_is_built_was_approved(self) -> None:
        project = self._fresh()
        approved = [(demo.pk, demo.commit) for demo in self._demos() if demo.status == DemoStatus.APPROVED]
        if project.approved_demo_id:
            assert approved == [(project.approved_demo_id, project.approved_demo_commit)]
        else:
            assert approved == []

    def teardown(self) -> None:
        for chain in AuditChain.objects.values_list("key", flat=True):
            lives.check_whole(chain)
        super().teardown()


@pytest.mark.django_db
def test_no_sequence_of_calls_reaches_an_illegal_state() -> None:
    explore(Demos, examples=12, steps=25)
