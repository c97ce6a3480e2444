"""Conditions in the status of any Kubernetes object, as plain JSON. Pure."""

from typing import Any

Json = dict[str, Any]


def true_condition(found: Json | None, *kinds: str) -> Json | None:
    """Find the first condition of these types that is True; an object that does not exist has none."""
    known = ((found or {}).get("status") or {}).get("conditions") or []
    return next((each for each in known if each["type"] in kinds and each["status"] == "True"), None)


def is_true(found: Json | None, *kinds: str) -> bool:
    """True if one of these conditions of an object is True."""
    return true_condition(found, *kinds) is not None
