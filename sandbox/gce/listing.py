"""Lists: filtered, ordered, and split into pages, as ``list`` and ``aggregatedList`` do it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from sandbox.gce.errors import invalid_field
from sandbox.gce.filters import parse_filter

MAX_RESULTS = 500


def page(
    resources: Iterable[dict[str, Any]], query: Mapping[str, str], message_type: Any
) -> tuple[list[dict[str, Any]], str | None]:
    """Return one page of ``resources``, and the token of the next one.

    The request's ``filter``, ``orderBy``, ``maxResults`` and ``pageToken`` select it. A token says which item came
    last, so that nothing comes twice or is left out if the list changes in between.

    Raises:
        ApiError: 400; a parameter is not understood.
    """
    matches = parse_filter(query.get("filter", ""), message_type)
    order_by = query.get("orderBy", "name")
    if order_by not in {"name", "creationTimestamp desc"}:
        raise invalid_field("orderBy", order_by, "Sorting is supported by [name, creationTimestamp desc].")
    newest_first = order_by != "name"

    def key(resource: dict[str, Any]) -> list[str]:
        made = resource.get("creationTimestamp") or resource.get("insertTime", "")
        return [made if newest_first else "", resource["name"], resource.get("zone", "")]

    found = sorted((r for r in resources if matches(r)), key=key, reverse=newest_first)
    if token := query.get("pageToken"):
        last = _decode(token)
        found = [r for r in found if (key(r) < last if newest_first else key(r) > last)]
    size = _max_results(query)
    items, rest = found[:size], found[size:]
    return items, _encode(key(items[-1])) if rest else None


def listing(kind: str, path: str, items: object, next_token: str | None, *, self_link: str) -> dict[str, Any]:
    """Wrap a list in its envelope."""
    envelope: dict[str, Any] = {"kind": kind, "id": path, "items": items, "selfLink": self_link}
    if next_token:
        envelope["nextPageToken"] = next_token
    if not items:
        del envelope["items"]  # the service leaves it out
    return envelope


def _max_results(query: Mapping[str, str]) -> int:
    text = query.get("maxResults", "")
    if not text:
        return MAX_RESULTS
    if not text.isdecimal() or int(text) > MAX_RESULTS:
        raise invalid_field("maxResults", text, f"Values must be within the range: [0, {MAX_RESULTS}].")
    return int(text) or MAX_RESULTS


def _encode(key: list[str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _decode(token: str) -> list[str]:
    try:
        key = json.loads(base64.urlsafe_b64decode(token))
    except ValueError as error:
        raise invalid_field("pageToken", token, "Page token is invalid.") from error
    if not isinstance(key, list) or not all(isinstance(part, str) for part in key):
        raise invalid_field("pageToken", token, "Page token is invalid.")
    return key
