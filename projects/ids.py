"""Primary keys: UUIDv7 (RFC 9562), so that keys sort by time of creation and index pages fill in order."""

import uuid

import uuid6


def new_id() -> uuid.UUID:
    """Return a new UUIDv7. Ids made by one process in one millisecond still sort in the order made."""
    return uuid.UUID(int=uuid6.uuid7().int)
