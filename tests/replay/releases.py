"""The releases of which something is kept: each has a folder in `histories`, `states` and `schemas`, by its version.

What a release did, wrote and read does not change any more. So only the folder of the version in `pyproject.toml` is
written, and only until `CHANGELOG.md` lists it as released.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
KINDS = ("histories", "states", "schemas")
SUPPORTED_MINORS = 2
"""The newest minor release and the one before it: docs/upgrading.md, "How long a release is supported"."""


class ReleasedError(Exception):
    """The release that is to be recorded is out already."""


def version() -> str:
    """Read the version that `pyproject.toml` names."""
    return str(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"])


def kept(kind: str) -> list[str]:
    """List the releases of which something of this kind is kept, the oldest first."""
    return sorted((each.name for each in (HERE / kind).glob("*/")), key=_numbers)


def folder(kind: str, release: str, changelog: Path = REPOSITORY / "CHANGELOG.md") -> Path:
    """Return the folder in which a release that is not out yet is recorded.

    Raises:
        ReleasedError: it is out, or a newer one is.
    """
    if re.search(rf"^## \[{re.escape(release)}\]", changelog.read_text(), re.MULTILINE):
        raise ReleasedError(
            f"{release} is released, as {changelog.name} says, and what it did is not recorded anew: "
            "name the next version in pyproject.toml"
        )
    newer = [each for each in kept(kind) if _numbers(each) > _numbers(release)]
    if newer:
        raise ReleasedError(
            f"{HERE.name}/{kind}/{release} is of an older release than {newer[-1]}, and stays as it is: "
            "name the next version in pyproject.toml"
        )
    made = HERE / kind / release
    made.mkdir(parents=True, exist_ok=True)
    return made


def is_supported(release: str, newest: str) -> bool:
    """True if the newest release may continue open work of this one."""
    (major, minor), (newest_major, newest_minor) = _numbers(release)[:2], _numbers(newest)[:2]
    return major == newest_major and newest_minor - minor < SUPPORTED_MINORS


def _numbers(release: str) -> list[int]:
    return [int(part) for part in release.split(".")]
