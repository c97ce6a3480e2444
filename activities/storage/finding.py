"""Which checkpoint in a bucket is the furthest complete one. A training says by its manifest, written last.

One that was cut short by the machine's end has no manifest; one whose upload went wrong has files that are missing or
of another size. Both are passed over.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import ValidationError

from activities.storage import Storage
from api.storage import MANIFEST, MANIFEST_BYTES, Manifest

AT_ONCE = 16


@dataclass(frozen=True)
class Found:
    """The furthest complete checkpoint below a prefix, and which others were passed over and why."""

    path: str | None
    progress: float = 0.0
    passed_over: list[str] = field(default_factory=list)


async def furthest_complete(storage: Storage, prefix: str, avoid: Iterable[str] = ()) -> Found:
    """Look through all manifests below ``prefix``; those in ``avoid`` are known not to be of use.

    Raises:
        CloudError: the bucket cannot be read.
    """
    sizes = {each.key: each.size for each in await storage.list(prefix)}
    paths = [key.rpartition("/")[0] for key in sizes if key.endswith(f"/{MANIFEST}")]
    paths = sorted(set(paths) - set(avoid))
    gate = asyncio.Semaphore(AT_ONCE)

    async def read(path: str) -> "_Judged":
        async with gate:
            return _judge(path, await storage.get(f"{path}/{MANIFEST}", MANIFEST_BYTES + 1), sizes)

    judged = await asyncio.gather(*(read(path) for path in paths))
    without = _without_manifest(prefix, paths, avoid, sizes)
    bad = [*(f"{one.path}: {one.trouble}" for one in judged if one.trouble), *without]
    good = [one for one in judged if not one.trouble]
    best = max(good, key=lambda one: (one.progress, one.path), default=None)
    return Found(best.path if best else None, best.progress if best else 0.0, bad)


@dataclass(frozen=True)
class _Judged:
    path: str
    progress: float = 0.0
    trouble: str = ""


def _judge(path: str, body: bytes, sizes: dict[str, int]) -> _Judged:
    try:
        manifest = Manifest.model_validate_json(body[:MANIFEST_BYTES])
    except ValidationError:
        return _Judged(path, trouble=f"its {MANIFEST} cannot be read")
    for name, size in sorted(manifest.files.items()):
        there = sizes.get(f"{path}/{name}")
        if there is None:
            return _Judged(path, trouble=f"{name} is missing")
        if there != size:
            return _Judged(path, trouble=f"{name} has {there} bytes instead of {size}")
    return _Judged(path, manifest.progress)


def _without_manifest(prefix: str, paths: list[str], avoid: Iterable[str], sizes: dict[str, int]) -> list[str]:
    """Directories with files and no manifest in them or above them: being written now, or cut short."""
    known = {*paths, *avoid}
    lone = {key.rpartition("/")[0] for key in sizes}
    return [f"{path}: it has no {MANIFEST}" for path in sorted(lone) if not _within(path, known) and path != prefix]


def _within(path: str, known: set[str]) -> bool:
    parts = path.split("/")
    return any("/".join(parts[:end]) in known for end in range(1, len(parts) + 1))
