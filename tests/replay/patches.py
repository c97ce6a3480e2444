"""The names of the patches in `workflows/`, and of those that each release had: `schemas/<release>/patches.txt`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tests.replay.releases import HERE, REPOSITORY, folder

ASKED = re.compile(r'\bpatched\(\s*(?:"([^"]+)"|([A-Z_]+))')


def used() -> set[str]:
    """Find the names that workflows ask for, also by a constant of their module."""
    found = set()
    for path in (REPOSITORY / "workflows").rglob("*.py"):
        text = path.read_text()
        for literal, constant in ASKED.findall(text):
            named = re.search(rf'^{constant} = "([^"]+)"', text, re.MULTILINE) if constant else None
            assert literal or named, f"{path}: {constant} is no text of this module"
            found.add(literal or (named.group(1) if named else ""))
    return found


def unlisted(
    asked: set[str], had: Mapping[str, set[str]], releases: Mapping[str, frozenset[str]]
) -> dict[str, set[str]]:
    """Find the patches that a run would take for granted, because it began on a release that did not have them.

    Args:
        asked: the names in today's code.
        had: those that each release had.
        releases: ``workflows.common.patches.RELEASES``.
    """
    found: dict[str, set[str]] = {}
    later: set[str] = set()
    for release, came in releases.items():
        if release in had:
            found[release] = asked - had[release] - later
        later |= came
    return {release: names for release, names in found.items() if names}


def kept() -> dict[str, set[str]]:
    """Read the names that recorded releases had."""
    return {path.parent.name: set(path.read_text().split()) for path in HERE.glob("schemas/*/patches.txt")}


def write(release: str) -> Path:
    """Keep the names of the release to come.

    Raises:
        ReleasedError: it is out.
    """
    path = folder("schemas", release) / "patches.txt"
    path.write_text("\n".join(sorted(used())) + "\n")
    return path
