"""Messages between the agents of a project: posted once, read in order, by each whom they are for.

A message has a number in its project, given under the lock of the project's counter and held until the commit: what is
below a number that can be read has been committed too. So a reader is a number alone, however many messages there are.
It moves with the run (`Run.inbox_seq`), and counts for the agent (`Agent.inbox_seq`) when the run succeeds: what was
read by a run that led to nothing is read again by the next.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Greatest

from agents.bus import BUS
from agents.models import Agent, Message, MessageCounter, Run
from agents.states import MessageType
from projects import audit
from projects.actors import Actor
from projects.ids import new_id
from projects.jsontext import storable_json
from projects.roles import Role

MAX_INBOX = 50
# So long a message waits for whoever has not begun yet.
KEPT = timedelta(days=30)
_FORGOTTEN_AT_ONCE = 5_000
_COUNT = """
INSERT INTO agents_messagecounter AS counter (project_id, last_seq) VALUES (%s, 1)
ON CONFLICT (project_id) DO UPDATE SET last_seq = counter.last_seq + 1 RETURNING last_seq
"""
# Of a run: whether its project has messages that the run was not moved past. Its own are among them.
HAS_MAIL = Exists(
    MessageCounter.objects.filter(
        project=OuterRef("project"), last_seq__gt=Greatest(OuterRef("inbox_seq"), OuterRef("agent__inbox_seq"))
    )
)


def post(
    project_id: UUID,
    message_type: MessageType,
    payload: dict[str, Any],
    *,
    sender: Agent | None,
    to_role: Role | None = None,
    to_agent: Agent | None = None,
    key: str,
    now: datetime,
) -> Message:
    """Put a message into inboxes, once per `key`. Without `to_role` and `to_agent` it is for all but the sender.

    Raises ValueError for a heartbeat: an agent that lives must not make the table grow.
    """
    if not BUS[message_type].stored:
        raise ValueError(f"{message_type} is no row: see agents.bus.")
    by = Actor.agent(sender.pk, sender.name) if sender else Actor.system("messages")
    with audit.journal(by=by, now=now) as journal:
        # The last lock before that of the audit chain. Who asks for a number waits for all before it.
        with connection.cursor() as cursor:
            cursor.execute(_COUNT, [project_id])
            (seq,) = cursor.fetchone()
        if known := Message.objects.filter(project=project_id, idempotency_key=key).first():
            return known
        message = Message.objects.create(
            id=new_id(),
            project_id=project_id,
            seq=seq,
            from_agent=sender,
            to_agent=to_agent,
            to_role=to_role or "",
            message_type=message_type,
            payload=storable_json(payload, max_chars=20_000),
            idempotency_key=key,
            created_at=now,
        )
        journal.add("message.sent", project_id=project_id, obj=message, details={"type": message_type.value})
    return message


def take(run: Run, *, now: datetime) -> list[Message]:
    """Return the next messages to the run's agent, its role or everybody, in order, and move the run past them.

    At most MAX_INBOX at a time. Two callers at once get them once; where nothing is new, nothing is written.
    """
    head = MessageCounter.objects.filter(project=run.project_id).values_list("last_seq", flat=True).first() or 0
    place = Run.objects.filter(pk=run.pk)
    moved, known = place.values_list("inbox_seq", "agent__inbox_seq").get()
    since = max(moved, known)
    if since >= head:
        return []
    for_it = Q(to_agent=run.agent_id) | Q(to_agent__isnull=True, to_role__in=["", run.agent.agent_type])
    between = Message.objects.filter(for_it, project=run.project_id, seq__gt=since, seq__lte=head)
    others = between.exclude(from_agent=run.agent_id).select_related("from_agent")
    with audit.journal(by=Actor.agent(run.agent_id, run.agent.name), now=now) as journal:
        found = list(others.order_by("seq")[:MAX_INBOX])
        reached = found[-1].seq if len(found) == MAX_INBOX else head
        if not place.filter(inbox_seq=moved).update(inbox_seq=reached):
            return []  # another caller has them
        if found:
            Message.objects.filter(pk__in=[one.pk for one in found], read_at__isnull=True).update(read_at=now)
            journal.add("message.read", project_id=run.project_id, obj=run, details={"count": len(found)})
    return found


def confirm(run: Run) -> None:
    """Have what a run read count as read by its agent. In the transaction in which the run succeeds."""
    reached = Run.objects.values_list("inbox_seq", flat=True).get(pk=run.pk)
    if reached:
        Agent.objects.filter(pk=run.agent_id, inbox_seq__lt=reached).update(inbox_seq=reached)


def forget_old(*, now: datetime) -> int:
    """Delete messages that were sent KEPT ago, some at a time; return how many. That they were sent stays audited."""
    # Ids begin with their time: the oldest are found without looking at the others.
    oldest = UUID(int=int((now - KEPT).timestamp() * 1000) << 80)
    ids = list(Message.objects.filter(pk__lt=oldest).order_by("pk").values_list("pk", flat=True)[:_FORGOTTEN_AT_ONCE])
    return Message.objects.filter(pk__in=ids).delete()[0] if ids else 0
