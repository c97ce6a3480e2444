"""Checkpoints that several processes write together: complete once all of them have ended, and in no other case."""

import itertools
import json
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from activities.signatures import FindStored, FoundStored, JobRef
from activities.storage import StoredObject
from activities.storage.activities import StorageActivities
from activities.storage.bucket import SecretBuckets
from activities.storage.finding import Found, furthest_complete
from api.spot_instance_job import CheckpointStorage
from sandbox import object_store
from sandbox.object_store import ObjectStore
from tests.activities.world import JOB_ID, loopback_gate, run

JOB = JobRef(namespace="team", name="resnet", uid="u-1", job_id=JOB_ID)
PREFIX = "job/checkpoints"
OURS = f"{JOB_ID}/checkpoints"


@dataclass
class Shelf:
    """A bucket in memory that counts what is read of it."""

    objects: dict[str, bytes]
    reads: list[str] = field(default_factory=list)

    async def list(self, prefix: str) -> list[StoredObject]:
        return [StoredObject(key, len(body)) for key, body in self.objects.items() if key.startswith(f"{prefix}/")]

    async def get(self, key: str, limit: int) -> bytes:
        self.reads.append(key)
        return self.objects.get(key, b"")[:limit]

    async def put(self, key: str, parts: AsyncIterator[bytes]) -> None:
        raise AssertionError("nothing is written")


def shard(
    path: str, rank: int, world: int, progress: float, sizes: Mapping[str, int] | None = None, **more: object
) -> dict[str, bytes]:
    """Return the objects of one process, its manifest last."""
    sizes = {f"model-{rank}-of-{world}": 5, f"optimizer/{rank}-of-{world}": 7} if sizes is None else sizes
    manifest = {"version": 2, "progress": progress, "files": sizes, **more}
    files = {f"{path}/{name}": b"x" * size for name, size in sizes.items()}
    return files | {f"{path}/outlast-{rank}-of-{world}.json": json.dumps(manifest).encode()}


def shards(path: str, world: int, progress: float, **more: object) -> dict[str, bytes]:
    """Return the objects of a complete checkpoint."""
    return {key: body for rank in range(world) for key, body in shard(path, rank, world, progress, **more).items()}


async def find(objects: dict[str, bytes], machines: int = 1) -> Found:
    return await furthest_complete(Shelf(objects), PREFIX, machines=machines)


async def why_not(objects: dict[str, bytes], machines: int = 1) -> str:
    """Return why the only checkpoint is passed over."""
    found = await find(objects, machines)
    assert found.path is None
    [told] = found.passed_over
    return told.removeprefix(f"{AT}: ")


AT = f"{PREFIX}/r0-i0/000000000100"


# --- what makes it complete


async def test_it_is_complete_once_all_have_written_their_manifests() -> None:
    found = await find(shards(AT, 3, 100))
    assert (found.path, found.progress, found.passed_over) == (AT, 100, [])


async def test_whatever_is_missing_of_it_makes_it_incomplete() -> None:
    """All subsets of the nine objects of three processes: only the whole is a checkpoint."""
    whole = shards(AT, 3, 100)
    for number in range(len(whole)):
        for there in itertools.combinations(whole, number):
            found = await find({key: whole[key] for key in there})
            assert found.path is None, there
            assert len(found.passed_over) >= bool(there)


async def test_each_file_has_to_have_its_size() -> None:
    whole = shards(AT, 3, 100)
    for key in (key for key in whole if not key.endswith(".json")):
        for body in (b"", whole[key] + b"x"):
            assert f"has {len(body)} bytes instead of {len(whole[key])}" in await why_not(whole | {key: body})


async def test_the_reason_names_what_is_missing() -> None:
    whole = shards(AT, 3, 100)
    manifests = [f"{AT}/outlast-{rank}-of-3.json" for rank in range(3)]
    assert await why_not(_without(whole, manifests[1])) == "outlast-1-of-3.json is missing"
    assert await why_not(_without(whole, *manifests[:2])) == "outlast-0-of-3.json is missing, and 1 more of 3"
    assert await why_not(_without(whole, f"{AT}/optimizer/2-of-3")) == "optimizer/2-of-3 is missing"
    cut = {manifests[2]: whole[manifests[2]][:-9]}
    assert await why_not(whole | cut) == "its outlast-2-of-3.json cannot be read"


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ({"progress": 99}, "rank 2 of 3 is at progress 99, and rank 0 at 100"),
        ({"run": "second"}, "rank 2 of 3 wrote it in another run than rank 0"),
        ({"version": 3}, "its outlast-2-of-3.json cannot be read"),
        ({"version": 1}, "its outlast-2-of-3.json cannot be read"),
        ({"progress": float("inf")}, "its outlast-2-of-3.json cannot be read"),
        ({"sizes": {"model-0-of-3": 5}}, "ranks 0 and 2 both wrote model-0-of-3: put the rank into its name"),
        ({"fits": [2, 4]}, "it fits 2 or 4 machines, and not 1"),
        ({"fits": []}, "its outlast-2-of-3.json cannot be read"),
    ],
)
async def test_those_that_do_not_belong_together_are_no_checkpoint(odd: dict[str, object], why: str) -> None:
    other = shard(AT, 2, 3, **({"progress": 100} | odd))  # type: ignore[arg-type]
    assert await why_not(shards(AT, 3, 100) | other) == why


async def test_what_it_fits_is_a_number_of_machines() -> None:
    whole = shards(AT, 2, 100, fits=[2, 4])
    assert (await find(whole, machines=4)).path == AT
    assert (await find(whole, machines=3)).path is None
    assert (await find(shards(AT, 2, 100), machines=3)).path == AT


async def test_two_numbers_of_processes_in_one_directory_are_two_checkpoints() -> None:
    """All subsets of the manifests of two and of three processes: complete if one of the two sets is."""
    files = shards(AT, 2, 100) | shards(AT, 3, 100)
    manifests = [key for key in files if key.endswith(".json")]
    for number in range(len(manifests) + 1):
        for there in itertools.combinations(manifests, number):
            found = await find({key: body for key, body in files.items() if key in there or key not in manifests})
            complete = any(sum(f"of-{world}" in key for key in there) == world for world in (2, 3))
            assert (found.path == AT) == complete, there
            if complete:
                assert found.passed_over == []


@pytest.mark.parametrize(
    "name",
    ["outlast-3-of-3.json", "outlast-01-of-3.json", "outlast--1-of-3.json", "outlast-0-of-0.json", "outlast-2.json"],
)
async def test_names_that_are_no_manifests_complete_nothing(name: str) -> None:
    whole = shards(AT, 3, 100)
    moved = {f"{AT}/{name}": whole[f"{AT}/outlast-2-of-3.json"]}
    assert await why_not(_without(whole, f"{AT}/outlast-2-of-3.json") | moved) == "outlast-2-of-3.json is missing"


@pytest.mark.parametrize("seed", range(200))
async def test_among_many_the_furthest_whole_one_is_found(seed: int) -> None:
    """Checkpoints with faults at random, and the one that was made without any and is the furthest."""
    chance = random.Random(seed)
    objects: dict[str, bytes] = {}
    good: list[tuple[float, str]] = []
    for progress in chance.sample(range(1, 100), chance.randint(1, 6)):
        path = f"{PREFIX}/r{chance.randint(0, 1)}-i{chance.randint(0, 3)}/{progress:012d}"
        sound = False
        for world in chance.sample(range(1, 5), chance.randint(1, 2)):
            made = shards(path, world, progress)
            broken = chance.choice([_lacking, _resized, _ahead, _restarted, None])
            objects |= made if broken is None else broken(made, path, world, progress, chance)
            sound = sound or broken is None
        if sound:
            good.append((progress, path))
    found = await find(objects)
    assert (found.progress, found.path) == max(good, default=(0.0, None))


def _lacking(made: dict[str, bytes], path: str, world: int, progress: int, chance: random.Random) -> dict[str, bytes]:
    return _without(made, *chance.sample(sorted(made), chance.randint(1, len(made))))


def _resized(made: dict[str, bytes], path: str, world: int, progress: int, chance: random.Random) -> dict[str, bytes]:
    key = chance.choice([key for key in made if not key.endswith(".json")])
    return made | {key: made[key] + b"x"}


def _ahead(made: dict[str, bytes], path: str, world: int, progress: int, chance: random.Random) -> dict[str, bytes]:
    if world == 1:
        return {}
    return made | shard(path, chance.randrange(world), world, progress + chance.choice([-1, 1000]))


def _restarted(made: dict[str, bytes], path: str, world: int, progress: int, chance: random.Random) -> dict[str, bytes]:
    return made | shard(path, chance.randrange(world), world, progress, run="2") if world > 1 else {}


def _without(objects: dict[str, bytes], *keys: str) -> dict[str, bytes]:
    return {key: body for key, body in objects.items() if key not in keys}


# --- beside those that one process writes


async def test_both_kinds_are_compared_by_their_progress() -> None:
    single = {
        f"{PREFIX}/r0-i0/one/model": b"x",
        f"{PREFIX}/r0-i0/one/outlast.json": b'{"progress": 90, "files": {"model": 1}}',
    }
    assert (await find(single | shards(AT, 2, 100))).path == AT
    assert (await find(single | shards(AT, 2, 80))).path == f"{PREFIX}/r0-i0/one"


async def test_a_directory_with_one_manifest_for_all_is_judged_by_that_alone() -> None:
    manifest = {f"{AT}/outlast.json": b'{"progress": 90, "files": {"model": 1}}'}
    assert await why_not(shards(AT, 2, 100) | manifest) == "model is missing"


async def test_only_what_may_be_the_furthest_is_read_to_its_end() -> None:
    objects = {
        key: body
        for progress in range(1, 51)
        for key, body in shards(f"{PREFIX}/r0-i0/{progress:012d}", 8, progress).items()
    }
    objects = _without(objects, f"{PREFIX}/r0-i0/{50:012d}/model-3-of-8")
    shelf = Shelf(objects)
    found = await furthest_complete(shelf, PREFIX)
    assert found.progress == 49
    assert found.passed_over == [f"{PREFIX}/r0-i0/{50:012d}: model-3-of-8 is missing"]
    assert len(shelf.reads) == 50 + 2 * 8


# --- in the sandbox's bucket


async def stored(store: ObjectStore, objects: dict[str, bytes], **more: object) -> FoundStored:
    for key, body in objects.items():
        store.buckets["checkpoints"][key] = object_store.StoredObject(body, datetime.now(UTC))
    bucket = CheckpointStorage(type="gcs", bucket="checkpoints", endpoint=store.url)
    request = FindStored.model_validate({"job": JOB, "storage": bucket, **more})
    return await run(StorageActivities(SecretBuckets(None, loopback_gate())).find_stored, request)  # type: ignore[arg-type]


async def test_the_activity_finds_it_and_tells_what_it_passes_over(store: ObjectStore) -> None:
    whole, torn = f"{OURS}/r1-i4/000000000100", f"{OURS}/r1-i4/000000000200"
    objects = shards(whole, 4, 100) | _without(shards(torn, 4, 200), f"{torn}/outlast-2-of-4.json")
    found = await stored(store, objects)
    assert found.point is not None
    assert (found.point.path, found.point.progress, found.point.lineage) == (whole, 100, "1.4")
    assert found.passed_over == [f"{torn}: outlast-2-of-4.json is missing"]


async def test_one_that_did_not_start_is_avoided(store: ObjectStore) -> None:
    first, second = f"{OURS}/r0-i0/000000000001", f"{OURS}/r0-i0/000000000002"
    found = await stored(store, shards(first, 2, 1) | shards(second, 2, 2), avoid=[second])
    assert found.point is not None
    assert (found.point.path, found.passed_over) == (first, [])


async def test_for_other_machines_than_it_fits_it_is_passed_over(store: ObjectStore) -> None:
    path = f"{OURS}/r0-i0/000000000001"
    objects = shards(path, 2, 1, fits=[2])
    assert (await stored(store, objects)).passed_over == [f"{path}: it fits 2 machines, and not 1"]
    assert (await stored(store, objects, machines=2)).point is not None
