"""What was reported before this bridge began: up to which resourceVersion, of each kind.

The bridge that acts keeps it as an annotation of its Lease, which it renews every two seconds anyway. The next bridge
lists everything, and reports only objects that have changed since. Nothing else would tell it what the workflows know.
The annotation counts for as long as it says the truth: it names the Lease in which it was written, so that a copy in
another cluster is ignored, and the code that decides what is reported, so that another release reports everything once.
No object can be newer than the Lease in which it was noted, unless etcd was restored from a backup since.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import api

Version = tuple[str, int]
"""The plural of a kind, and the resourceVersion of an object of it that has changed."""

SOURCES = (Path(api.__file__).parent, Path(__file__).parent)


@dataclass(frozen=True)
class Reported:
    """The versions up to which everything was reported, by the plural of the kind."""

    versions: Mapping[str, int] = field(default_factory=dict)

    def covers(self, plural: str, version: int) -> bool:
        """True if an object that last changed at this version was reported as it is."""
        return version <= self.versions.get(plural, 0)

    def written(self, lease: str) -> str:
        """Write it for the annotation of the Lease with this UID."""
        return json.dumps({"lease": lease, "code": _code(), "versions": dict(self.versions)})

    @classmethod
    def read(cls, text: str, lease: str, version: int) -> "Reported":
        """Read an annotation of the Lease with this UID, at this version of the Lease.

        Nothing was reported if it cannot be relied on.
        """
        try:
            said: Any = json.loads(text)
            if said["lease"] != lease or said["code"] != _code():
                return cls()
            versions = {str(plural): int(last) for plural, last in said["versions"].items()}
            return cls(versions) if max(versions.values(), default=0) < version else cls()
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()


NOTHING = Reported()
"""Nothing was reported."""


@cache
def _code() -> str:
    """Identify the code that decides what is reported, by the sources of the bridge and of the vocabulary."""
    files = sorted(file for folder in SOURCES for file in folder.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
