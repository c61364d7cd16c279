"""The append-only, hash-chained record of everything; also the source of live events."""

import pgtrigger
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q

from projects.ids import new_id

ACCOUNT_CHAIN = "account"
_APPEND_ONLY = "RAISE EXCEPTION 'append-only: % on % is refused', TG_OP, TG_TABLE_NAME;"


def append_only(name: str) -> list[pgtrigger.Trigger]:
    """Return triggers that refuse UPDATE, DELETE and TRUNCATE of a table, whoever asks."""
    return [
        pgtrigger.Trigger(
            name=f"{name}_no_change",
            operation=pgtrigger.Update | pgtrigger.Delete,
            when=pgtrigger.Before,
            func=_APPEND_ONLY,
        ),
        pgtrigger.Trigger(
            name=f"{name}_no_truncate",
            operation=pgtrigger.Truncate,
            level=pgtrigger.Statement,
            when=pgtrigger.Before,
            func=_APPEND_ONLY,
        ),
    ]


class AuditChain(models.Model):
    """The head of one hash chain: one per project (its id) and one for the account.

    Locked by whoever appends, at the end of their transaction, so that a chain has no fork and no gap.
    """

    key = models.CharField(primary_key=True, max_length=36)
    last_seq = models.BigIntegerField(default=0)
    last_hash = models.CharField(max_length=64, blank=True)

    def __str__(self) -> str:
        return f"{self.key} #{self.last_seq}"


class AuditLog(models.Model):
    """One thing that happened. No foreign keys: the record survives the deletion of what it names.

    `hash` is the SHA-256 of the row's canonical JSON, which contains `prev_hash` (`projects.audit.digest`).
    A row with an `event_type` is also a live event (`projects.events`), whose payload is `event_payload`.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    chain = models.CharField(max_length=36)
    seq = models.BigIntegerField()
    timestamp = models.DateTimeField()
    project_id = models.UUIDField(null=True, blank=True)
    agent_id = models.UUIDField(null=True, blank=True)
    actor_kind = models.CharField(max_length=8)
    actor_id = models.CharField(max_length=64, blank=True)
    actor_name = models.CharField(max_length=150)
    action = models.CharField(max_length=64)
    object_type = models.CharField(max_length=32, blank=True)
    object_id = models.CharField(max_length=64, blank=True)
    details = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    event_type = models.CharField(max_length=32, blank=True)
    event_payload = models.JSONField(null=True, blank=True, encoder=DjangoJSONEncoder)
    prev_hash = models.CharField(max_length=64, blank=True)
    hash = models.CharField(max_length=64)

    class Meta:
        indexes = [
            models.Index(fields=["-timestamp", "-id"], name="audit_newest"),
            models.Index(fields=["project_id", "-seq"], name="audit_of_project"),
            models.Index(fields=["action", "-timestamp"], name="audit_by_action"),
            models.Index(fields=["object_type", "object_id"], name="audit_of_object"),
            models.Index(fields=["actor_name", "-timestamp"], name="audit_by_actor"),
            models.Index(fields=["chain", "seq"], condition=~Q(event_type=""), name="audit_events"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["chain", "seq"], name="audit_seq_once"),
            models.CheckConstraint(
                condition=Q(event_type="", event_payload__isnull=True)
                | (~Q(event_type="") & Q(event_payload__isnull=False)),
                name="audit_event_has_payload",
            ),
        ]
        triggers = append_only("audit")

    def __str__(self) -> str:
        return f"{self.chain} #{self.seq} {self.action}"
