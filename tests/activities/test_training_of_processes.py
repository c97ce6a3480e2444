"""`deploy/training/outlast_checkpoint.py` in several real processes of one machine, over a real bucket."""

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from activities.storage.bucket import SecretBuckets
from activities.storage.finding import Found, furthest_complete
from api.spot_instance_job import CheckpointStorage
from sandbox.object_store import ObjectStore
from tests.activities.world import loopback_gate

HELPER = Path(__file__).parents[2] / "deploy" / "training"
TRAIN = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import outlast_checkpoint as outlast

outlast.IDENTITY = Path(sys.argv[2])
rank, world = outlast._who()
here = Path(sys.argv[3], str(rank))
stop = outlast.sigterm()
step = int(outlast.restore_shard(here) or 0)
print(f"from {step}", *sorted(f"{file.name}={file.read_text()}" for file in here.glob("state-*")), flush=True)
while True:
    step += 1
    time.sleep(0.001 * rank)  # none of them is ever at the step of another
    if leaving := outlast.agreed(stop.is_set()):
        (here / f"state-{rank}").write_text(f"{rank} at {step}")
        if not (rank == 1 and "torn" in sys.argv):
            outlast.publish_shard(here, step)
        print(f"saved {step}", flush=True)
        sys.exit(143)
    if step % 10 == 0:
        print(f"step {step}", flush=True)
"""


@dataclass
class Rank:
    """One process, and the lines that it has written."""

    process: asyncio.subprocess.Process
    lines: list[str]

    async def line(self, beginning: str) -> str:
        """Wait for a line, and return what follows its beginning."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().strip())
            if self.lines[-1].startswith(beginning):
                return self.lines[-1].removeprefix(beginning).strip()
        raise AssertionError(f"no line {beginning!r} in {self.lines}")


Start = Callable[..., Awaitable[list[Rank]]]


@pytest.fixture
async def start(tmp_path: Path, store: ObjectStore) -> AsyncIterator[Start]:
    """Give a function that starts a training of several processes."""
    begun: list[Rank] = []

    async def start(
        world: int, incarnation: int = 0, restored_from: str = "", *arguments: str, gang: bool = False
    ) -> list[Rank]:
        identity = tmp_path / f"etc-{incarnation}"
        identity.mkdir()
        told = {
            "storageType": "gcs",
            "storageBucket": "checkpoints",
            "storagePrefix": f"job/checkpoints/r0-i{incarnation}",
            "storageEndpoint": store.url,
            "restoredFrom": restored_from,
        }
        for name, content in told.items():
            (identity / name).write_text(content)
        scratch = tmp_path / f"scratch-{incarnation}"
        environment = {"MASTER_PORT": f"{os.getpid()}-{tmp_path.name}-{incarnation}", "TMPDIR": "/tmp"}
        port = free_port()
        made = []
        for rank in range(world):
            mine, variables = identity, {"RANK": str(rank), "WORLD_SIZE": str(world)}
            if gang:  # as in pods of several machines, which know who they are by their files alone
                mine, variables = shutil.copytree(identity, tmp_path / f"etc-{incarnation}-{rank}"), {}
                for name, content in ("member", rank), ("size", world), ("coordinator", f"127.0.0.1:{port - 1}"):
                    (mine / name).write_text(str(content))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", TRAIN, str(HELPER), str(mine), str(scratch), *arguments,
                env={**environment, **variables},
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            made.append(Rank(process, []))
        begun.extend(made)
        return made

    yield start
    for rank in begun:
        if rank.process.returncode is None:
            rank.process.kill()
        await rank.process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def furthest(store: ObjectStore) -> Found:
    where = CheckpointStorage(type="gcs", bucket="checkpoints", endpoint=store.url)
    bucket = await SecretBuckets(None, loopback_gate()).open(where, None, "team")  # type: ignore[arg-type]
    return await furthest_complete(bucket, "job/checkpoints")


async def stopped(ranks: list[Rank], told: int) -> list[str]:
    """Send SIGTERM to one of them once all train, and return the steps at which they have saved themselves."""
    for rank in ranks:
        await rank.line("step")
    ranks[told].process.send_signal(signal.SIGTERM)
    saved = [await rank.line("saved") for rank in ranks]
    assert [await rank.process.wait() for rank in ranks] == [143] * len(ranks)
    return saved


@pytest.mark.parametrize("told", [0, 2])
async def test_a_signal_to_one_of_them_saves_all_at_one_step(start: Start, store: ObjectStore, told: int) -> None:
    saved = await stopped(await start(3), told)
    assert len(set(saved)) == 1
    found = await furthest(store)
    assert (found.path, found.progress) == (f"job/checkpoints/r0-i0/{int(saved[0]):012d}", float(saved[0]))
    assert found.passed_over == []


async def test_members_of_a_gang_agree_over_the_network_and_continue_from_what_each_saved(
    start: Start, store: ObjectStore
) -> None:
    saved = await stopped(await start(3, gang=True), 1)
    assert len(set(saved)) == 1
    found = await furthest(store)
    assert (found.progress, found.passed_over) == (float(saved[0]), [])
    again = await start(3, 1, found.path, gang=True)
    told = [await rank.line("from") for rank in again]
    assert told == [f"{saved[0]} state-{rank}={rank} at {saved[0]}" for rank in range(3)]


async def test_the_end_of_a_member_ends_the_others(start: Start) -> None:
    ranks = await start(3, gang=True)
    for rank in ranks:
        await rank.line("step")
    ranks[0].process.kill()
    assert [await rank.process.wait() for rank in ranks] == [-9, 1, 1]


async def test_each_continues_from_what_it_saved(start: Start, store: ObjectStore) -> None:
    step = (await stopped(await start(3), 1))[0]
    found = await furthest(store)
    again = await start(3, 1, found.path)
    assert [await rank.line("from") for rank in again] == [f"{step} state-{rank}={rank} at {step}" for rank in range(3)]


async def test_another_number_of_them_gets_all_and_saves_its_own(start: Start, store: ObjectStore) -> None:
    step = (await stopped(await start(3), 1))[0]
    fewer = await start(2, 1, (await furthest(store)).path)
    all_of_it = " ".join(f"state-{rank}={rank} at {step}" for rank in range(3))
    assert [await rank.line("from") for rank in fewer] == [f"{step} {all_of_it}"] * 2
    later = (await stopped(fewer, 0))[0]
    found = await furthest(store)
    assert (found.progress, found.passed_over) == (float(later), [])
    saved = {
        key.removeprefix(f"{found.path}/") for key in store.buckets["checkpoints"] if key.startswith(f"{found.path}/")
    }
    assert saved == {"state-0", "state-1", "outlast-0-of-2.json", "outlast-1-of-2.json"}


async def test_one_that_did_not_save_itself_makes_the_checkpoint_torn(start: Start, store: ObjectStore) -> None:
    step = (await stopped(await start(3, 0, "", "torn"), 0))[0]
    found = await furthest(store)
    assert found.path is None
    assert found.passed_over == [f"job/checkpoints/r0-i0/{int(step):012d}: outlast-1-of-3.json is missing"]


@pytest.mark.parametrize("killed", [0, 1])
async def test_the_end_of_one_ends_the_others(start: Start, killed: int) -> None:
    ranks = await start(3)
    for rank in ranks:
        await rank.line("step")
    ranks[killed].process.kill()
    assert [await rank.process.wait() for rank in ranks] == [-9 if number == killed else 1 for number in range(3)]
