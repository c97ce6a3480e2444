"""Checkpoints as Outlast's own contract has them: complete by one ``outlast.json``, or by a manifest of each process.

Several processes that save one checkpoint put their files into one directory, and each writes a manifest of its own
last. Nobody waits for the others: that all are there says that all have ended.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from pydantic import ValidationError

from activities.storage import Storage
from activities.storage.judged import Judged, Sizes, directory, file_name
from api.storage import MANIFEST, MANIFEST_BYTES, SHARD_MANIFEST, Manifest, ShardManifest, shard_manifest

AT_ONCE = 16
"""How many manifests are read at once."""

Read = Callable[[str], Awaitable[bytes]]


async def judge_published(
    storage: Storage, prefix: str, sizes: Sizes, avoid: Collection[str], machines: int
) -> list[Judged]:
    """Judge each directory with a manifest, and report those that have none.

    Of the sharded checkpoints only those are read to their end that may be the furthest.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def read(key: str) -> bytes:
        async with gate:
            return (await storage.get(key, MANIFEST_BYTES + 1))[:MANIFEST_BYTES]

    whole = sorted({directory(key) for key in sizes if file_name(key) == MANIFEST and "/" in key} - set(avoid))
    sharded = [each for each in _sharded(sizes) if each.path not in avoid and each.path not in whole]
    judged = await asyncio.gather(*(_judge_whole(read, path, sizes) for path in whole))
    known = {*whole, *avoid, *(each.path for each in sharded)}
    return [*judged, *await _judge_sharded(read, sharded, sizes, machines), *_without_manifest(prefix, known, sizes)]


async def _judge_whole(read: Read, path: str, sizes: Sizes) -> Judged:
    try:
        manifest = Manifest.model_validate_json(await read(f"{path}/{MANIFEST}"))
    except ValidationError:
        return Judged(path, problem=f"its {MANIFEST} cannot be read")
    return Judged(path, manifest.progress, _wrong_file(path, manifest.files, sizes))


def _wrong_file(path: str, files: dict[str, int], sizes: Sizes) -> str:
    """Name the first file that is missing or has another size; empty if there is none."""
    for name, size in sorted(files.items()):
        there = sizes.get(f"{path}/{name}")
        if there is None:
            return f"{name} is missing"
        if there != size:
            return f"{name} has {there} bytes instead of {size}"
    return ""


def _without_manifest(prefix: str, known: set[str], sizes: Sizes) -> list[Judged]:
    """List directories with files and no manifest in or above them: they are being written, or were cut short."""
    lone = sorted({directory(key) for key in sizes})
    return [
        Judged(path, problem=f"it has no {MANIFEST}") for path in lone if path != prefix and not _within(path, known)
    ]


def _within(path: str, known: set[str]) -> bool:
    parts = path.split("/")
    return any("/".join(parts[:end]) in known for end in range(1, len(parts) + 1))


# --- by several processes


@dataclass(frozen=True)
class _Sharded:
    """A directory, how many processes write there, and which of them have written their manifests."""

    path: str
    world: int
    ranks: frozenset[int]

    @property
    def missing(self) -> str:
        """Name the manifests that are missing; empty if there is none."""
        lacking = self.world - len(self.ranks)
        if not lacking:
            return ""
        first = next(rank for rank in range(self.world) if rank not in self.ranks)
        others = f", and {lacking - 1} more of {self.world}" if lacking > 1 else ""
        return f"{shard_manifest(first, self.world)} is missing{others}"


def _sharded(sizes: Sizes) -> list[_Sharded]:
    """Group the manifests by their directory and by the number of processes: one directory may have been used twice."""
    found: dict[tuple[str, int], set[int]] = {}
    for key in sizes:
        named = SHARD_MANIFEST.fullmatch(file_name(key))
        if named and "/" in key and int(named[1]) < int(named[2]):
            found.setdefault((directory(key), int(named[2])), set()).add(int(named[1]))
    return [_Sharded(path, world, frozenset(ranks)) for (path, world), ranks in sorted(found.items())]


async def _judge_sharded(read: Read, found: list[_Sharded], sizes: Sizes, machines: int) -> list[Judged]:
    """Judge them from the furthest one down, by what rank 0 says, up to the first that is complete."""
    judged = [Judged(each.path, problem=each.missing) for each in found if each.missing]
    whole = [each for each in found if not each.missing]
    firsts = await asyncio.gather(*(_Shards(each, sizes, machines).judge(read, 0) for each in whole))
    for _, each in sorted(zip(firsts, whole, strict=True), key=lambda one: -one[0].progress):
        judged.append(await _Shards(each, sizes, machines).judge_all(read))
        if not judged[-1].problem:
            break
    return judged


@dataclass(frozen=True)
class _Shard:
    """What one process says of the checkpoint."""

    progress: float
    run: str = ""
    problem: str = ""


class _Shards:
    """Judges one sharded checkpoint. What its manifests contain is kept no longer than it takes to look at it."""

    def __init__(self, of: _Sharded, sizes: Sizes, machines: int) -> None:
        self._of = of
        self._sizes = sizes
        self._machines = machines
        self._owners: dict[str, int] = {}

    async def judge_all(self, read: Read) -> Judged:
        """Judge all of its shards, and whether they belong together."""
        path, world = self._of.path, self._of.world
        shards = await asyncio.gather(*(self.judge(read, rank) for rank in range(world)))
        first = shards[0]
        for rank, shard in enumerate(shards):
            if shard.problem:
                return Judged(path, problem=shard.problem)
            if shard.progress != first.progress:
                told = f"rank {rank} of {world} is at progress {shard.progress:g}, and rank 0 at {first.progress:g}"
                return Judged(path, problem=told)
            if shard.run != first.run:
                return Judged(path, problem=f"rank {rank} of {world} wrote it in another run than rank 0")
        return Judged(path, first.progress)

    async def judge(self, read: Read, rank: int) -> _Shard:
        """Judge what one process wrote."""
        path, name = self._of.path, shard_manifest(rank, self._of.world)
        try:
            manifest = ShardManifest.model_validate_json(await read(f"{path}/{name}"))
        except ValidationError:
            return _Shard(float("inf"), problem=f"its {name} cannot be read")
        problem = _wrong_file(path, manifest.files, self._sizes) or self._shared_file(manifest, rank)
        if not problem and manifest.fits is not None and self._machines not in manifest.fits:
            several = " or ".join(map(str, manifest.fits[:8]))
            problem = f"it fits {several} machines, and not {self._machines}"
        return _Shard(manifest.progress, manifest.run, problem)

    def _shared_file(self, manifest: ShardManifest, rank: int) -> str:
        """Name a file that another rank wrote, too, so that what the first wrote is lost; empty if there is none."""
        for name in manifest.files:
            if (owner := self._owners.setdefault(name, rank)) != rank:
                both = " and ".join(map(str, sorted((owner, rank))))
                return f"ranks {both} both wrote {name}: put the rank into its name"
        return ""
