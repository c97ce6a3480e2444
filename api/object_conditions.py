"""Conditions in the status of any Kubernetes object, as plain JSON. Pure."""

from datetime import datetime
from typing import Any

from api import conditions

Json = dict[str, Any]

FINAL = (conditions.COMPLETED, conditions.FAILED)
"""One of these is True once a SpotInstanceJob has ended."""


def true_condition(found: Json | None, *kinds: str) -> Json | None:
    """Find the first condition of these types that is True; an object that does not exist has none."""
    known = ((found or {}).get("status") or {}).get("conditions") or []
    return next((each for each in known if each["type"] in kinds and each["status"] == "True"), None)


def is_true(found: Json | None, *kinds: str) -> bool:
    """True if one of these conditions of an object is True."""
    return true_condition(found, *kinds) is not None


def finished_at(job: Json) -> datetime | None:
    """Find when the training of a SpotInstanceJob ended; None if it has not, or if nothing says when."""
    ended = [true_condition(job, kind) for kind in FINAL]
    times = [each["lastTransitionTime"] for each in ended if each and each.get("lastTransitionTime")]
    return min(map(datetime.fromisoformat, times), default=None)


def is_over(job: Json) -> bool:
    """True if the training of a SpotInstanceJob is over, well or not."""
    return is_true(job, *FINAL)
