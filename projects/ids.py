"""Primary keys: UUIDv7 (RFC 9562), so that keys sort by time of creation and index pages fill in order.

A client's is made by the trigger that makes the client (`models.client`). Numbers are the keys of accounts' rows, as
Django's users', and of what a workflow's runner writes in one statement; AuditChain, WebhookCursor, MessageCounter,
RecoverySettings and Pulse have the key of what there is one row for.
"""

import uuid

import uuid6


def new_id() -> uuid.UUID:
    """Return a new UUIDv7. Ids made by one process in one millisecond still sort in the order made."""
    return uuid.UUID(int=uuid6.uuid7().int)
