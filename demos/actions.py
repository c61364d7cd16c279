"""Every write to demos, as verbs. Only here is a demo's status assigned.

    a demo task completes ──> open_demo ──> (its preview starts) ──> mark_ready ──> decide_demo
                                                    └──> mark_failed ──> a new demo task

Starting and stopping previews is `demos.keeper`'s; these verbs touch rows only.
"""

from datetime import datetime, timedelta

from django.conf import settings

from demos import queries
from demos.addresses import preview_url
from demos.errors import (
    FAILURES,
    CannotExtend,
    DemoClosed,
    EmptyFeedback,
    NotADemoTask,
    NotInDemoPhase,
    Reason,
)
from demos.models import Demo, DemoFeedback
from demos.states import DEMO_TRANSITIONS, DemoStatus
from projects import audit
from projects.actions import approvals, main_job, plans, projects
from projects.actions.chat import notify, post_message
from projects.actors import Actor
from projects.errors import IllegalTransition
from projects.events import DEMO_APPROVED, DEMO_READY, Event
from projects.ids import new_id
from projects.jsontext import storable_text
from projects.models import Approval, Notification, Project, Task
from projects.states import OPEN_APPROVAL, ApprovalKind, ProjectStatus, Stage, TaskKind, TaskStatus
from projects.transitions import step

MAX_FAILED_IN_A_ROW = 3
MAX_EXTENSION_DAYS = 90
_MAX_DETAIL_CHARS = 8_000
_RESULTS = {
    "approve": DemoStatus.APPROVED,
    "amend": DemoStatus.CHANGES_REQUESTED,
    "reject": DemoStatus.REJECTED,
}


def open_demo(task: Task, *, commit: str, summary: str, token: str, now: datetime, by: Actor) -> Demo:
    """Number what a completed demo task made; its preview is to be started. Returns the demo there is already.

    `token` is `addresses.new_token()`. Raises NotADemoTask, NotInDemoPhase.
    """
    if task.kind != TaskKind.DEMO or task.status != TaskStatus.COMPLETED or not commit:
        raise NotADemoTask
    with audit.journal(by=by, now=now) as journal:
        # Of two that open the same demo, the second finds the first one's row.
        project = Project.objects.select_for_update(no_key=True).get(pk=task.project_id)
        number = queries.demo_number_of(task)
        if demo := project.demos.filter(demo_number=number).first():
            return demo
        _check_at_demos(project)
        demo = Demo.objects.create(
            id=new_id(),
            project=project,
            demo_number=number,
            commit=commit,
            summary=storable_text(summary, max_chars=20_000),
            token=token,
            preview_url=preview_url(token),
            created_at=now,
            expires_at=now + timedelta(days=settings.EKLAVYA_DEMO_DAYS),
        )
        journal.add("demo.opened", project_id=project.pk, obj=demo, details={"number": number, "commit": commit})
    return demo


def mark_ready(demo: Demo, *, sandbox: str, address: str, now: datetime, by: Actor) -> None:
    """Note that the preview answers, and ask for the decision. `address` is host:port.

    Raises IllegalTransition or StaleState unless it was being built, NotInDemoPhase when the project went on.
    """
    project = demo.project
    _check_at_demos(project)
    with audit.journal(by=by, now=now) as journal:
        # The project first, as whoever decides does; the main job goes on from it.
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        step(
            demo,
            DemoStatus.READY,
            table=DEMO_TRANSITIONS,
            sandbox=sandbox,
            address=address,
            ready_at=now,
            reason="",
            detail="",
        )
        payload = {"projectId": project.pk, "demoNumber": demo.demo_number, "previewUrl": demo.preview_url}
        journal.add(
            "demo.ready",
            project_id=project.pk,
            obj=demo,
            details={"number": demo.demo_number, "sandbox": sandbox},
            event=Event(DEMO_READY, payload),
        )
        approvals.ask(
            project,
            ApprovalKind.DEMO,
            subject_id=demo.pk,
            title=f"Demo {demo.demo_number} of {project.name}",
            body=demo.summary,
            by=by,
            now=now,
        )
        post_message(project, f"[Demo {demo.demo_number}]({demo.preview_url}) is open.", by=by, now=now)
        main_job.reached(project, Stage.DEMO, {"number": demo.demo_number}, by=by, now=now)


def mark_failed(demo: Demo, reason: Reason, detail: str, *, now: datetime, by: Actor) -> None:
    """Note that the commit cannot be shown, and have the demo built anew; its developer is told why.

    Each time that MAX_FAILED_IN_A_ROW demos have failed in a row the project is paused as well: the new task waits.
    Raises IllegalTransition or StaleState unless it was being built.
    """
    assert reason in FAILURES, reason
    if demo.status != DemoStatus.BUILDING:
        # The table lets a shown demo expire, but one that was seen is not built anew behind people's backs.
        raise IllegalTransition(f"{demo} was shown before: it is decided, or expires.")
    with audit.journal(by=by, now=now) as journal:
        # The project first, as whoever decides does: it is asked for a new demo, or paused, further down.
        demo.project.refresh_from_db(from_queryset=Project.objects.select_for_update(no_key=True))
        step(
            demo,
            DemoStatus.EXPIRED,
            table=DEMO_TRANSITIONS,
            reason=reason.value,
            detail=storable_text(detail, max_chars=_MAX_DETAIL_CHARS),
            sandbox="",
            address="",
        )
        details = {"number": demo.demo_number, "reason": reason.value, "detail": detail}
        journal.add("demo.failed", project_id=demo.project_id, obj=demo, details=details)
        if queries.is_at_demos(demo.project):
            _build_anew(demo, by=by, now=now)


def _build_anew(demo: Demo, *, by: Actor, now: datetime) -> None:
    project = demo.project
    projects.ask_for_demo(project, feedback=queries.feedback_so_far(project), by=by, now=now)
    text = f"Demo {demo.demo_number} could not be shown ({demo.reason}). It is built anew."
    post_message(project, text, by=by, now=now)
    failed = queries.failed_in_a_row(project)
    if project.is_active and failed % MAX_FAILED_IN_A_ROW == 0:
        reason = f"{failed} demos in a row could not be shown; the last one: {demo.reason}."
        notify(
            project,
            level=Notification.Level.ERROR,
            title=f"{project.name} is paused: {failed} demos in a row could not be shown",
            message=demo.detail,
            links=[{"label": "Open project", "url": f"/projects/{project.pk}/"}],
            by=by,
            now=now,
        )
        projects.pause_project(project, reason=reason, by=by, now=now)


def decide_demo(approval: Approval, decision: approvals.Decision, by: Actor, now: datetime) -> None:
    """Build what was approved, or have the next demo made with all feedback so far. Closes the demos before this one.

    Raises NotInDemoPhase, ProjectNotActive while the project is paused, IllegalTransition when it is not open.
    """
    demo = Demo.objects.select_for_update(of=("self",)).select_related("project").get(pk=approval.subject_id)
    project = demo.project
    projects.check_active(project)
    _check_at_demos(project)
    to = _RESULTS[decision.option]
    approved_at = now if to is DemoStatus.APPROVED else None
    with audit.journal(by=by, now=now) as journal:
        feedback = storable_text(decision.comment, max_chars=20_000)
        step(demo, to, table=DEMO_TRANSITIONS, decided_at=now, approved_at=approved_at, feedback=feedback)
        if feedback.strip():
            _remark(demo, feedback, by=by, now=now)
        journal.add(
            f"demo.{to.value}",
            project_id=project.pk,
            obj=demo,
            details={"number": demo.demo_number, "commit": demo.commit},
            event=_decided_event(demo, to),
        )
        _close_earlier(demo, by=by, now=now)
        decided = {"decision": decision.option, "number": demo.demo_number, "commit": demo.commit}
        main_job.reached(project, Stage.DEMO_APPROVAL, decided, by=by, now=now)


def begin_demo(project: Project, *, by: Actor, now: datetime) -> None:
    """Have a demo built, the first or one with what people said about those before. The project has an active plan."""
    if project.status == ProjectStatus.PLANNING:
        projects.begin_demos(project, by=by, now=now)
    projects.ask_for_demo(project, feedback=queries.feedback_so_far(project), by=by, now=now)


def begin_building(project: Project, *, by: Actor, now: datetime) -> None:
    """Build what the approved demo showed, with what people said about all demos."""
    shown = project.demos.filter(status=DemoStatus.APPROVED).order_by("demo_number").last()
    assert shown is not None
    told = queries.feedback_so_far(project)
    plans.start_building(project, demo_id=shown.pk, commit=shown.commit, feedback=told, by=by, now=now)


def _decided_event(demo: Demo, to: DemoStatus) -> Event:
    """Tell of each decision, whichever it is: the type has its name from the one that is hoped for."""
    payload = {"projectId": demo.project_id, "demoNumber": demo.demo_number, "decision": to.value}
    return Event(DEMO_APPROVED, payload)


def _close_earlier(demo: Demo, *, by: Actor, now: datetime) -> None:
    """Close the demos that this one replaced. Until now they could be compared with it."""
    earlier = demo.project.demos.filter(demo_number__lt=demo.demo_number, revoked_at__isnull=True)
    for old in earlier.exclude(status=DemoStatus.EXPIRED):
        revoke_demo(old, by=by, now=now)


def give_feedback(demo: Demo, text: str, *, by: Actor, now: datetime) -> DemoFeedback:
    """Keep a remark about a demo; the next demo's developer is told. Raises EmptyFeedback."""
    body = storable_text(text, max_chars=20_000).strip()
    if not body:
        raise EmptyFeedback
    with audit.journal(by=by, now=now):
        return _remark(demo, body, by=by, now=now)


def _remark(demo: Demo, body: str, *, by: Actor, now: datetime) -> DemoFeedback:
    with audit.journal(by=by, now=now) as journal:
        remark = DemoFeedback.objects.create(id=new_id(), demo=demo, user_id=by.user_id, body=body, created_at=now)
        journal.add("demo.remarked", project_id=demo.project_id, obj=demo, details={"text": body})
    return remark


def expire_demo(demo: Demo, *, reason: Reason = Reason.NOT_DECIDED, now: datetime, by: Actor) -> None:
    """End an undecided demo and withdraw its question. `extend_demo` opens it again.

    Raises IllegalTransition when it was decided or has ended.
    """
    with audit.journal(by=by, now=now) as journal:
        # The project first, as whoever decides does: else this and a decision could wait for each other.
        Project.objects.select_for_update(no_key=True).get(pk=demo.project_id)
        step(demo, DemoStatus.EXPIRED, table=DEMO_TRANSITIONS, reason=reason.value, detail="")
        details = {"number": demo.demo_number, "reason": reason.value}
        journal.add("demo.expired", project_id=demo.project_id, obj=demo, details=details)
        open_questions = Approval.objects.filter(kind=ApprovalKind.DEMO, subject_id=demo.pk, status__in=OPEN_APPROVAL)
        approvals.withdraw(list(open_questions), reason=reason.value, by=by, now=now)
        if reason is Reason.NOT_DECIDED:
            notify(
                demo.project,
                level=Notification.Level.WARNING,
                title=f"Demo {demo.demo_number} of {demo.project.name} expired without a decision",
                message="Extend it to open it again and decide.",
                links=[{"label": "Open demos", "url": f"/projects/{demo.project_id}/demos/"}],
                by=by,
                now=now,
            )


def extend_demo(demo: Demo, *, days: int, now: datetime, by: Actor) -> None:
    """Show a demo for `days` more, 1 to MAX_EXTENSION_DAYS. An expired one is opened again: its preview starts anew.

    Raises CannotExtend, DemoClosed; StaleState when it changed meanwhile.
    """
    if not 1 <= days <= MAX_EXTENSION_DAYS:
        raise CannotExtend(f"A demo can be extended by 1 to {MAX_EXTENSION_DAYS} days, not {days}.")
    if demo.revoked_at is not None:
        raise DemoClosed
    expires_at = max(demo.expires_at, now) + timedelta(days=days)
    with audit.journal(by=by, now=now) as journal:
        if demo.status == DemoStatus.EXPIRED:
            _check_reopen(demo)
            step(demo, DemoStatus.BUILDING, table=DEMO_TRANSITIONS, expires_at=expires_at, reason="", detail="")
        else:
            Demo.objects.filter(pk=demo.pk).update(expires_at=expires_at)
            demo.expires_at = expires_at
        details = {"number": demo.demo_number, "expires_at": expires_at}
        journal.add("demo.extended", project_id=demo.project_id, obj=demo, details=details)


def _check_reopen(demo: Demo) -> None:
    """Raise CannotExtend or NotInDemoPhase unless an expired demo may be shown and decided after all."""
    _check_at_demos(demo.project)
    if demo.reason in FAILURES:
        raise CannotExtend("This demo could not be shown; it is built anew.")
    if demo.project.demos.filter(demo_number__gt=demo.demo_number).exists():
        raise CannotExtend("There is a newer demo.")


def revoke_demo(demo: Demo, *, new_token: str = "", now: datetime, by: Actor) -> None:
    """Have a demo's address answer no more, from now on. With `new_token` the demo stays open, at a new address.

    Raises DemoClosed when there is no open address and no new one is given.
    """
    if demo.revoked_at is not None and not new_token:
        raise DemoClosed("This demo's address was closed before.")
    fields = (
        {"token": new_token, "preview_url": preview_url(new_token), "revoked_at": None}
        if new_token
        else {"revoked_at": now}
    )
    with audit.journal(by=by, now=now) as journal:
        Demo.objects.filter(pk=demo.pk).update(**fields)
        for name, value in fields.items():
            setattr(demo, name, value)
        action = "demo.readdressed" if new_token else "demo.revoked"
        journal.add(action, project_id=demo.project_id, obj=demo, details={"number": demo.demo_number})


def record_preview(demo: Demo, *, sandbox: str, address: str, now: datetime, by: Actor) -> None:
    """Note where the preview of a shown demo runs, after it was started again or found elsewhere."""
    _update_preview(demo, "demo.preview_started", sandbox=sandbox, address=address, by=by, now=now)


def take_preview(demo: Demo, *, worker: str, now: datetime, by: Actor) -> bool:
    """Have a worker keep a demo's preview, and nobody else; return whether it does now.

    Of several that take it from the same one, or from none, one gets it. `demo` is as it was read.
    """
    before = demo.kept_by
    with audit.journal(by=by, now=now) as journal:
        fields = {"kept_by": worker} | ({"sandbox": "", "address": ""} if before else {})
        if not Demo.objects.filter(pk=demo.pk, kept_by=before).update(**fields):
            return False
        for name, value in fields.items():
            setattr(demo, name, value)
        if before:
            details = {"number": demo.demo_number, "from": before, "to": worker}
            journal.add("demo.preview_moved", project_id=demo.project_id, obj=demo, details=details)
    return True


def record_stopped(demo: Demo, *, now: datetime, by: Actor) -> None:
    """Note that the preview does not run any more, on purpose."""
    _update_preview(demo, "demo.preview_stopped", sandbox="", address="", by=by, now=now)


def record_trouble(demo: Demo, detail: str, *, now: datetime, by: Actor) -> None:
    """Note why the preview does not run just now; it is tried again. Written once per cause."""
    if demo.status == DemoStatus.EXPIRED:
        return  # its reason says why it ended
    text = storable_text(detail, max_chars=_MAX_DETAIL_CHARS)
    if (demo.reason, demo.detail, demo.address) == (Reason.PREVIEW_DOWN, text, ""):
        return
    with audit.journal(by=by, now=now) as journal:
        same = Demo.objects.filter(pk=demo.pk, status=demo.status)
        if not same.update(reason=Reason.PREVIEW_DOWN.value, detail=text, address=""):
            # Decided or ended meanwhile: its reason is another one now.
            return
        demo.reason, demo.detail, demo.address = Reason.PREVIEW_DOWN.value, text, ""
        journal.add("demo.preview_down", project_id=demo.project_id, obj=demo, details={"detail": text})


def _update_preview(demo: Demo, action: str, *, sandbox: str, address: str, by: Actor, now: datetime) -> None:
    if (demo.sandbox, demo.address) == (sandbox, address):
        return
    with audit.journal(by=by, now=now) as journal:
        fields = {"sandbox": sandbox, "address": address}
        down = Demo.objects.filter(pk=demo.pk, reason=Reason.PREVIEW_DOWN)
        # If it ended meanwhile, its reason is another one now, and stays.
        if demo.reason == Reason.PREVIEW_DOWN and down.update(reason="", detail=""):
            fields |= {"reason": "", "detail": ""}
        Demo.objects.filter(pk=demo.pk).update(**fields)
        for name, value in fields.items():
            setattr(demo, name, value)
        journal.add(action, project_id=demo.project_id, obj=demo, details={"sandbox": sandbox})


def _check_at_demos(project: Project) -> None:
    if not queries.is_at_demos(project):
        raise NotInDemoPhase(f"{project.name} is not at its demos any more.")


approvals.register(ApprovalKind.DEMO, decide_demo)
main_job.register(Stage.DEMO, begin_demo)
main_job.register(Stage.BUILD, begin_building)
