"""What is known of one directory in a bucket that is, or was to become, a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass

Sizes = Mapping[str, int]
"""All objects below a prefix: key → size in bytes."""


@dataclass(frozen=True)
class Judged:
    """A directory and how far its training was, or the ``problem`` that makes it no complete checkpoint."""

    path: str
    progress: float = 0.0
    problem: str = ""


def directory(key: str) -> str:
    """Return the directory of an object."""
    return key.rpartition("/")[0]


def file_name(key: str) -> str:
    """Return the last part of a key."""
    return key.rpartition("/")[2]
