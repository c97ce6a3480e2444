"""One sandbox for all runs, whose worker and bridge are ended and started again, and whose servers come and go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from sandbox.claims import free_port
from sandbox.cloud import Cloud
from sandbox.control import ControlClient
from sandbox.demo.observer import Observer
from sandbox.errors import SandboxError
from sandbox.processes import Process
from sandbox.settings import Settings
from tests.chaos.real_time.patience import PatientTrainings
from tests.chaos.real_time.plan import DIRECTORY, ENDED
from tests.chaos.real_time.probes import Probes
from tests.e2e.conftest import TIMINGS
from tests.e2e.rig import CREDENTIALS, UP_SECONDS, Json, Rig

SPEED = 20.0
LOOK_SECONDS = 0.1
SERVERS = ("temporal", "kube-apiserver", "etcd", "bridge", "registry")


class House(Rig):
    """The end-to-end tests' rig over a sandbox in this very process."""

    def __init__(self, state_dir: Path, replicas: int = 1) -> None:
        environment = {f"OUTLAST_TIMING_{name}": str(seconds) for name, seconds in TIMINGS.items()}
        super().__init__(state_dir, SPEED, {})
        self.settings = Settings(
            state_dir=state_dir,
            speed=SPEED,
            product=True,
            product_env=environment,
            replicas=replicas,
        )
        self.cloud = Cloud(self.settings, lambda line: print(line, file=sys.stderr))
        self.password = secrets.token_hex(16)
        """The password of the registry, which nobody may write down."""
        self.ended: list[str] = []
        """What ended by itself, and was not meant to."""
        self.kept_down: set[str] = set()
        self.plans: dict[str, Path] = {}
        """The directories of the plans, by process."""
        self.probes: dict[str, Probes] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def up(self, seconds: float = 0) -> None:
        """Bring it up, with a worker and a bridge that end at points in place of the plain ones."""
        await self.cloud.up()
        for name in ("worker", "bridge"):
            await self._replace(self.cloud.processes[name])
        self._tasks = [
            asyncio.create_task(each) for each in [self._keep(), *(one.run() for one in self.probes.values())]
        ]
        self.addresses = self.cloud.addresses
        self.control = ControlClient(self.addresses["CONTROL_URL"])
        self.observer = Observer(self.settings.admin_kubeconfig, self.control)
        self.trainings = PatientTrainings(self.observer)
        self.kubectl = self.observer.kubectl
        await self.observer.start()
        await self.trainings.start()

    async def _replace(self, process: Process) -> None:
        directory = self.plans[process.name] = self.settings.state_dir / "chaos" / process.name
        directory.mkdir(parents=True)
        health, metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.probes[process.name] = Probes(process, health, metrics, self.ended)
        environment = {DIRECTORY: directory, "OUTLAST_HEALTH_ADDRESS": health, "OUTLAST_METRICS_ADDRESS": metrics}
        await process.stop()
        variables = [f"{name}={value}" for name, value in environment.items()]
        process.command = ["env", *variables, sys.executable, "-m", f"tests.chaos.real_time.{process.name}"]
        await process.start()

    @property
    def credentials(self) -> Json:
        """Make the Secret that `job` names."""
        return {**CREDENTIALS, "stringData": {"username": "chaos", "password": self.password}}

    @property
    def parts(self) -> set[str]:
        """List the names of all workers and bridges."""
        return {name for name in self.cloud.processes if name.partition("-")[0] in ("worker", "bridge")}

    async def down(self) -> None:
        """Take it down."""
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                print(f"what stands for Kubernetes has failed: {outcome!r}", file=sys.stderr)
        if self.addresses:
            await self.trainings.stop()
            await self.observer.stop()
        await self.cloud.down()

    async def _keep(self) -> None:
        """Start workers and bridges again whenever they end, as a Deployment does."""
        while True:
            for name in self.parts - self.kept_down:
                process = self.cloud.processes[name]
                if process.pid is None:
                    if process.exit_code != ENDED:
                        self.ended.append(f"{name} ended with code {process.exit_code}: {process.log_tail(3)}")
                    await process.start()
            await asyncio.sleep(LOOK_SECONDS)

    async def restart(self, name: str) -> None:
        """Kill a server, and start it again at once."""
        async with self.without([name]):
            pass

    @contextlib.asynccontextmanager
    async def without(self, names: Sequence[str]) -> AsyncIterator[None]:
        """Kill servers, and start them again when the block ends."""
        processes: list[Process] = [self.cloud.processes[name] for name in names]
        self.kept_down |= set(names)
        try:
            await asyncio.gather(*(process.kill() for process in processes))
            yield
        finally:
            await asyncio.gather(*(process.start() for process in processes))
            self.kept_down -= set(names)
            await self._answers()

    @contextlib.asynccontextmanager
    async def frozen(self, name: str) -> AsyncIterator[None]:
        """Let a server accept connections and answer none while the block runs; it forgets nothing."""
        pid = self.cloud.processes[name].pid
        assert pid is not None
        os.killpg(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(pid, signal.SIGCONT)

    async def _answers(self) -> None:
        """True if the API server accepts what the story does next."""
        async with asyncio.timeout(UP_SECONDS):
            while True:
                with contextlib.suppress(SandboxError):
                    await self.kubectl("get", "--raw", "/readyz", deadline=5)
                    return
                await asyncio.sleep(LOOK_SECONDS)
