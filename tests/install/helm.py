"""What the tests of the chart call helm, and what it says when it refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Helm = Callable[..., Awaitable[str]]


class HelmError(Exception):
    """Helm's own words."""
