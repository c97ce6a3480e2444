"""Light trainings that train together, without a cluster: one step for all, one end, and a save of all or of none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from sandbox.machines.light.kubelet.gang import Seat
from sandbox.machines.light.kubelet.training import LightTraining, Memory
from sandbox.object_store import BUCKET, ObjectStore
from tests.sandbox.light_nodes import eventually

SPEED = 100.0
FOREVER = 1_000_000
_jobs = count()


@dataclass
class Members:
    """The members of one gang, with their logs and exit codes."""

    directory: Path
    store: ObjectStore
    trainings: dict[int, LightTraining] = field(default_factory=dict)
    logs: dict[int, list[str]] = field(default_factory=dict)

    def start(self, size: int, *, ranks: range | None = None, restored_from: str = "", **env: object) -> None:
        """Start so many members of a new Job, or only some of them."""
        number = next(_jobs)
        for rank in ranks or range(size):
            identity = self.directory / f"{number}-{rank}"
            identity.mkdir()
            told = {"storageEndpoint": self.store.url, "storageBucket": BUCKET, "storagePrefix": "own"}
            for name, value in {**told, "restoredFrom": restored_from, "size": str(size)}.items():
                (identity / name).write_text(value)
            variables = {name: str(value) for name, value in {"SANDBOX_STEPS": FOREVER, **env}.items()}
            log = self.logs[rank] = []
            seat = Seat(job=f"job-{number}", container="train", rank=rank, size=size)
            memory = Memory(0, variables, f"host-{rank}")
            self.trainings[rank] = LightTraining(memory, {"/etc/outlast": identity}, log.append, SPEED, seat=seat)

    def step(self, rank: int) -> int:
        """Return how many steps a member has made."""
        return sum(line.startswith("step=") for line in self.logs[rank])

    async def reach(self, step: int, rank: int = 0) -> None:
        """Wait until a member has made so many steps."""

        async def reached() -> bool:
            return self.step(rank) >= step

        await eventually(f"step {step}", reached, pause=0.005)

    async def codes(self) -> list[int]:
        """Wait until all have ended, and return their exit codes by rank."""
        return [await self.trainings[rank].wait() for rank in sorted(self.trainings)]

    def saved(self) -> dict[str, list[int]]:
        """List the steps in the shards of each checkpoint."""
        found: dict[str, list[int]] = {}
        for key, each in sorted(self.store.buckets[BUCKET].items()):
            path, _, name = key.rpartition("/")
            if name.startswith("state"):
                found.setdefault(path, []).append(json.loads(each.body)["step"])
        return found


@pytest.fixture
async def gang(tmp_path: Path) -> AsyncIterator[Members]:
    """Make members, none of which outlives the test."""
    store = ObjectStore()
    await store.start()
    members = Members(tmp_path, store)
    yield members
    for each in members.trainings.values():
        each.kill()
    await members.codes()
    await store.stop()


async def test_all_make_the_same_steps_and_end_together(gang: Members) -> None:
    gang.start(3, SANDBOX_STEPS=8)
    assert await gang.codes() == [0, 0, 0]
    assert [gang.step(rank) for rank in range(3)] == [8, 8, 8]
    steps = [[line for line in log if line.startswith("step=")] for log in gang.logs.values()]
    assert steps[0] == steps[1] == steps[2]


async def test_nobody_begins_before_all_are_there(gang: Members) -> None:
    gang.start(3, ranks=range(2))
    await asyncio.sleep(20 / SPEED)
    assert gang.logs == {0: [], 1: []}
    gang.trainings[0].terminate()
    assert await gang.trainings[0].wait() == 143
    assert gang.logs[0] == ["SIGTERM before all peers were there"]


async def test_a_member_that_is_frozen_stops_all(gang: Members) -> None:
    gang.start(2)
    await gang.reach(3)
    dump = asyncio.create_task(gang.trainings[1].dump(600))
    await asyncio.sleep(5 / SPEED)
    frozen_at = gang.step(0)
    await asyncio.sleep(15 / SPEED)
    assert gang.step(0) == frozen_at
    dump.cancel()
    await gang.reach(frozen_at + 3)


async def test_one_sigterm_makes_all_save_the_same_step_and_exit(gang: Members) -> None:
    gang.start(3, SANDBOX_SAVE_EVERY=FOREVER)
    await gang.reach(5)
    gang.trainings[1].terminate()
    assert await gang.codes() == [143, 143, 143]
    [(path, steps)] = gang.saved().items()
    assert steps == [gang.step(0)] * 3
    assert path == f"own/{gang.step(0):012d}"
    manifests = [key.rpartition("/")[2] for key in gang.store.buckets[BUCKET] if "outlast" in key]
    assert sorted(manifests) == [f"outlast-{rank}-of-3.json" for rank in range(3)]


async def test_they_may_need_a_sigterm_each(gang: Members) -> None:
    gang.start(2, SANDBOX_SAVE_EVERY=FOREVER, SANDBOX_AGREE="all")
    await gang.reach(3)
    gang.trainings[0].terminate()
    await gang.reach(gang.step(0) + 5)
    assert gang.saved() == {}
    gang.trainings[1].terminate()
    assert await gang.codes() == [143, 143]
    assert list(gang.saved().values()) == [[gang.step(0)] * 2]


async def test_each_machine_saves_the_parts_of_its_processes(gang: Members) -> None:
    gang.start(2, SANDBOX_SAVE_EVERY=5, SANDBOX_STEPS=5, SANDBOX_SHARDS=4)
    assert await gang.codes() == [0, 0]
    manifests = [key.rpartition("/")[2] for key in gang.store.buckets[BUCKET] if "outlast" in key]
    assert sorted(manifests) == [f"outlast-{rank}-of-8.json" for rank in range(8)]


async def test_all_continue_from_what_they_are_told(gang: Members) -> None:
    gang.start(3, SANDBOX_SAVE_EVERY=4, SANDBOX_STEPS=4)
    await gang.codes()
    [path] = gang.saved()
    gang.start(2, restored_from=path, SANDBOX_SAVE_EVERY=FOREVER, SANDBOX_STEPS=6)
    await gang.trainings[0].wait()
    assert all(log[0].startswith("training from step 4 of 6") for log in (gang.logs[0], gang.logs[1]))


async def test_peers_of_a_member_that_ends_fail_soon(gang: Members) -> None:
    gang.start(3, SANDBOX_FAIL_AT_STEP=4, SANDBOX_FAIL_MEMBER=2, SANDBOX_EXIT_CODE=7, SANDBOX_SAVE_EVERY=FOREVER)
    assert await gang.codes() == [1, 1, 7]
    assert gang.logs[0][-1] == "a peer was lost at step 4: Connection closed by peer"
    assert gang.saved() == {}, "a save needs everybody"


async def test_peers_may_hang_instead_and_hear_no_sigterm(gang: Members) -> None:
    gang.start(2, SANDBOX_PEER_LOSS="hang", SANDBOX_SAVE_EVERY=FOREVER)
    await gang.reach(3)
    gang.trainings[1].kill()
    await gang.trainings[1].wait()
    await asyncio.sleep(20 / SPEED)
    stands_at = gang.step(0)
    gang.trainings[0].terminate()
    await asyncio.sleep(20 / SPEED)
    assert gang.step(0) == stands_at
    gang.trainings[0].kill()
    assert await gang.codes() == [137, 137]
    assert gang.saved() == {}


async def test_peers_of_a_machine_that_vanishes_hang(gang: Members) -> None:
    gang.start(2)
    await gang.reach(3)
    gang.trainings[1].vanish()
    await gang.trainings[1].wait()
    stands_at = gang.step(0)
    await asyncio.sleep(20 / SPEED)
    assert gang.step(0) <= stands_at + 1
    assert not gang.logs[0][-1].startswith("a peer was lost")


def test_only_numbered_pods_that_are_several_train_together(tmp_path: Path) -> None:
    owner = {"uid": "uid-of-the-job", "controller": True}
    labels = {"batch.kubernetes.io/job-completion-index": "2"}
    pod = {"metadata": {"labels": labels, "ownerReferences": [owner]}}
    assert Seat.of(pod, "train", {}, None) is None
    assert Seat.of(pod, "train", {"WORLD_SIZE": "1"}, None) is None
    assert Seat.of({"metadata": {"ownerReferences": [owner]}}, "train", {"WORLD_SIZE": "4"}, None) is None
    assert Seat.of(pod, "train", {"WORLD_SIZE": "4"}, None) == Seat("uid-of-the-job", "train", 2, 4)
    (tmp_path / "size").write_text("3\n")
    assert Seat.of(pod, "train", {"WORLD_SIZE": "24"}, tmp_path) == Seat("uid-of-the-job", "train", 2, 3)
