"""References between resources: self links as the service writes them, and the partial URLs that it accepts."""

from __future__ import annotations

import re

BASE = "https://www.googleapis.com/compute/v1/"

_PREFIX = re.compile(r"^(?:https?://[^/]+/)?compute/(?:v1|beta|alpha)/")


def self_link(path: str) -> str:
    """Return the full URL of the resource at ``path`` (``projects/…``), which does not depend on the endpoint."""
    return BASE + path


def resource_path(reference: str, project: str) -> str | None:
    """Return the path from ``projects/`` on that a full or partial URL names; None if it is neither.

    The service accepts ``https://…/compute/v1/projects/p/zones/z/…``, ``projects/p/…``, ``zones/z/…``, ``global/…`` and
    ``regions/r/…``.
    """
    path = _PREFIX.sub("", reference.strip())
    if path.startswith("projects/") and path.count("/") >= 2:
        return path
    if path.split("/", 1)[0] in {"zones", "regions", "global"} and "/" in path:
        return f"projects/{project}/{path}"
    return None


def leaf(reference: str) -> str:
    """Return the last part of a link: the name."""
    return reference.rsplit("/", 1)[-1]
