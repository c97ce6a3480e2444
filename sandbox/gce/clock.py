"""Times and numbers as resources show them."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta, timezone

#: The service writes its timestamps in Pacific time: an offset that clients have to understand.
_PACIFIC = timezone(timedelta(hours=-8))


def timestamp() -> str:
    """Now, in RFC 3339 with milliseconds."""
    return datetime.now(_PACIFIC).isoformat(timespec="milliseconds")


def numeric_id() -> int:
    """A resource id: unsigned 64 bit on the wire, about 19 digits."""
    return secrets.randbelow(9 * 10**18) + 10**18
