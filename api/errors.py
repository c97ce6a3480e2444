"""Types of the errors that activities raise, as far as a workflow distinguishes them.

They are the ``type`` of a ``temporalio.exceptions.ApplicationError``, and the reason of a condition whose check or step
failed so. The text below each constant is the sentence that ``docs/events.md`` shows.
"""

NO_CAPACITY = "NoCapacity"
"""The zone has no machine of this type now."""
QUOTA = "QuotaExceeded"
"""The project is at its limit."""
UNSUPPORTED = "Unsupported"
"""This configuration does not exist in this place."""
PERMISSION = "PermissionDenied"
"""A permission is missing; the message names it."""
MISSING = "Missing"
"""Something that the spec names does not exist, or not yet."""
INVALID = "Invalid"
"""The request is refused at any time, so a person has to correct what it is made of."""
CONFLICT = "Conflict"
"""The name belongs to somebody else."""
BUSY = "Busy"
"""Somebody else does the same now, and it must not be done twice at a time."""
ROOM_TAKEN = "RoomTaken"
"""Pods of others use the room on the VM that was bought."""
SUPERSEDED = "Superseded"
"""A later incarnation of the replica exists; the error's detail is its number."""
HOST_KEY = "HostKeyMismatch"
"""The machine that answers is not the one that was bought."""
TRANSIENT = "Transient"
"""All else: the same call may succeed later, and is repeated."""

CORRECTABLE = frozenset({PERMISSION, MISSING, INVALID})
"""The kinds of error that a person corrects: a revoked key, a deleted Secret, a Secret without a key."""
