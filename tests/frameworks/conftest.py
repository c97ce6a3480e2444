"""Frameworks as they are: the members of a gang as processes of this machine, told what Outlast tells its pods."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from activities.replicas.gang import coordinator
from activities.replicas.job_builder import build_job
from activities.signatures import CreateReplica, JobRef
from activities.storage.bucket import SecretBuckets
from activities.storage.finding import Found, furthest_complete
from api.spot_instance_job import CheckpointStorage
from sandbox.object_store import BUCKET, ObjectStore
from tests.activities.world import loopback_gate

REPOSITORY = Path(__file__).parents[2]
SAMPLES = REPOSITORY / "deploy/samples/distributed"
HELPER = REPOSITORY / "deploy/training"
# In a pod the files are in /etc/outlast.
RUN = """
import runpy, sys
from pathlib import Path
import outlast_checkpoint
outlast_checkpoint.IDENTITY = Path(sys.argv[1])
runpy.run_path(sys.argv[2], run_name="__main__")
"""


@dataclass
class Member:
    """One process, and the lines that it has written."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    async def line(self, beginning: str) -> str:
        """Wait for a line, and return what follows its beginning."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().strip())
            if self.lines[-1].startswith(beginning):
                return self.lines[-1].removeprefix(beginning).strip()
        raise AssertionError(f"no line {beginning!r} in:\n" + "\n".join(self.lines))

    async def end(self) -> int:
        """Read until its end, and return its exit code."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().strip())
        return await self.process.wait()

    def losses(self) -> dict[int, float]:
        """Return the loss after each step."""
        words = [line.split() for line in self.lines if line.startswith("step=")]
        return {int(step[5:].partition("/")[0]): float(loss.removeprefix("loss=")) for step, loss, *_ in words}


class Starts:
    """Starts gangs, each as another incarnation of one job."""

    def __init__(self, directory: Path, store: ObjectStore) -> None:
        self._directory = directory
        self._store = store
        self._begun: list[Member] = []
        self._incarnation = -1

    async def start(
        self, command: list[str], script: str, size: int, restored_from: str = "", **variables: object
    ) -> list[Member]:
        """Start the members of an incarnation: each runs a ``command`` with a script of the samples."""
        self._incarnation += 1
        port = free_port()
        members = [
            await self._member(command, SAMPLES / script, rank, size, port, restored_from, variables)
            for rank in range(size)
        ]
        self._begun += members
        return members

    async def _member(
        self,
        command: list[str],
        script: Path,
        rank: int,
        size: int,
        port: int,
        restored_from: str,
        more: dict[str, object],
    ) -> Member:
        place = self._directory / f"i{self._incarnation}-{rank}"
        identity = place / "etc"
        identity.mkdir(parents=True)
        told = {
            "storageType": "gcs",
            "storageBucket": BUCKET,
            "storagePrefix": f"job/checkpoints/r0-i{self._incarnation}",
            "storageEndpoint": self._store.url,
            "restoredFrom": restored_from,
            "member": str(rank),
            "size": str(size),
            "coordinator": f"127.0.0.1:{port}",
        }
        for name, content in told.items():
            (identity / name).write_text(content)
        (place / "run.py").write_text(RUN)
        own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HELPER), "HOME": str(place), "STATE": str(place / "state")}
        named = {name: str(value) for name, value in more.items()}
        process = await asyncio.create_subprocess_exec(
            *command, place / "run.py", identity, script, env={**own, **_variables(rank, size, port), **named},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        return Member(process)

    async def furthest(self, machines: int = 1) -> Found:
        """Find the checkpoint from which Outlast would continue with so many machines."""
        where = CheckpointStorage(type="gcs", bucket=BUCKET, endpoint=self._store.url)
        bucket = await SecretBuckets(None, loopback_gate()).open(where, None, "team")  # type: ignore[arg-type]
        return await furthest_complete(bucket, "job/checkpoints", machines=machines)

    async def close(self) -> None:
        """End what still runs."""
        for member in self._begun:
            if member.process.returncode is None:
                member.process.kill()
            await member.process.wait()


@pytest_asyncio.fixture
async def gangs(tmp_path: Path) -> AsyncIterator[Starts]:
    """Start gangs over a bucket, none of which outlives the test."""
    store = ObjectStore()
    await store.start()
    starts = Starts(tmp_path, store)
    yield starts
    await starts.close()
    await store.stop()


async def saved_on_sigterm(members: list[Member], told: int, code: int = 143) -> int:
    """Send SIGTERM to one of them once all train, and return the step at which all have ended, with this exit code."""
    for member in members:
        await member.line("step=20/")
    members[told].process.send_signal(signal.SIGTERM)
    assert [await member.end() for member in members] == [code] * len(members), "\n".join(members[told].lines[-5:])
    steps = {max(member.losses()) for member in members}
    assert len(steps) == 1, "all end at one step"
    return steps.pop()


def program(framework: str, name: str = "python") -> str:
    """Return the path of a program of a framework's environment; the test is skipped if nobody has made that."""
    directory = os.environ.get(f"OUTLAST_{framework.upper()}") or REPOSITORY / ".venv" / framework
    found = Path(directory, "bin", name)
    if not found.exists():
        pytest.skip(f"{framework} is not installed: `make test-frameworks FRAMEWORKS={framework}` does that")
    return str(found)


def _variables(rank: int, size: int, port: int) -> dict[str, str]:
    """Return the variables of a member's container, but for the place at which they meet."""
    template = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "train:1"}]}}}}
    job = JobRef(namespace="team", name="llm", uid="u-1", job_id="0a1b2c3d")
    asked = CreateReplica(
        job=job, job_template=template, replica=0, incarnation=0, nodes=[f"n{each}" for each in range(size)],
        bought=True, members=size, indexed=True,
    )  # fmt: skip
    [container] = build_job(asked)["spec"]["template"]["spec"]["containers"]
    values = {each["name"]: each.get("value", str(rank)) for each in container["env"]}
    return {
        name: value.replace(coordinator(asked), "127.0.0.1").replace("29500", str(port))
        for name, value in values.items()
    }


def free_port() -> int:
    """Return a port that is free, and the next one, by which they agree without a framework."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
