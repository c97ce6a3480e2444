"""Types of the errors that activities raise: what a workflow can tell apart.

They are the ``type`` of a ``temporalio.exceptions.ApplicationError``. Whatever is not one of these is transient.
"""

NO_CAPACITY = "NoCapacity"  # the zone has none of this machine type now
QUOTA = "QuotaExceeded"  # the project may not have more
UNSUPPORTED = "Unsupported"  # this configuration does not exist there
PERMISSION = "PermissionDenied"  # the message names the permission
MISSING = "Missing"  # a thing that the spec names is not there (yet)
INVALID = "Invalid"  # the API refuses what we ask for, whatever the moment
CONFLICT = "Conflict"  # the name is somebody else's
BUSY = "Busy"  # somebody else is at it, and it must not be done twice at a time
ROOM_TAKEN = "RoomTaken"  # pods of others have taken the room on the VM that was bought
SUPERSEDED = "Superseded"  # a later incarnation of the replica exists; the error's detail is its number
HOST_KEY = "HostKeyMismatch"  # the machine that answers is not the one we bought
