"""One sandbox for all runs, whose worker is ended at points and started again, and whose servers come and go."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from sandbox.cloud import Cloud
from sandbox.control import ControlClient
from sandbox.demo.trainings import Trainings
from sandbox.processes import Process
from sandbox.settings import Settings
from tests.chaos.real_time.patience import PatientObserver
from tests.chaos.real_time.plan import ENDED
from tests.chaos.real_time.worker import DIRECTORY
from tests.e2e.conftest import TIMINGS
from tests.e2e.rig import CREDENTIALS, Json, Rig

SPEED = 20.0
LOOK_SECONDS = 0.1
SERVERS = ("temporal", "kube-apiserver", "etcd", "bridge", "registry")


class House(Rig):
    """The end-to-end tests' rig over a sandbox in this very process."""

    def __init__(self, state_dir: Path) -> None:
        environment = {f"OUTLAST_TIMING_{name}": str(seconds) for name, seconds in TIMINGS.items()}
        super().__init__(state_dir, SPEED, {})
        self.settings = Settings(
            state_dir=state_dir,
            speed=SPEED,
            product=True,
            product_env={**environment, DIRECTORY: str(state_dir / "chaos")},
        )
        self.cloud = Cloud(self.settings, lambda line: print(line, file=sys.stderr))
        self.password = secrets.token_hex(16)
        """Of the registry; nobody may write it down."""
        self.ended: list[str] = []
        """What ended by itself, and was not meant to."""
        self.kept_down: set[str] = set()
        self._keeper: asyncio.Task[None] | None = None

    async def up(self, seconds: float = 0) -> None:
        """Bring it up, with the worker that ends at points in place of the plain one."""
        await self.cloud.up()
        directory = self.settings.state_dir / "chaos"
        directory.mkdir(exist_ok=True)
        self.chaos = directory
        worker = self.cloud.processes["worker"]
        await worker.stop()
        worker.command = [sys.executable, "-m", "tests.chaos.real_time.worker"]
        await worker.start()
        self._keeper = asyncio.create_task(self._keep())
        self.addresses = self.cloud.addresses
        self.control = ControlClient(self.addresses["CONTROL_URL"])
        self.observer = PatientObserver(self.settings.admin_kubeconfig, self.control)
        self.trainings = Trainings(self.observer)
        self.kubectl = self.observer.kubectl
        await self.observer.start()
        await self.trainings.start()

    @property
    def credentials(self) -> Json:
        """The Secret that `job` names."""
        return {**CREDENTIALS, "stringData": {"username": "chaos", "password": self.password}}

    async def down(self) -> None:
        """Take it down."""
        if self._keeper:
            self._keeper.cancel()
            await self.trainings.stop()
            await self.observer.stop()
        await self.cloud.down()

    async def _keep(self) -> None:
        """What a Deployment does: start the worker and the bridge again, whatever ended them."""
        while True:
            for name in {"worker", "bridge"} - self.kept_down:
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
        """Servers killed for as long as the block runs, and up again after it."""
        processes: list[Process] = [self.cloud.processes[name] for name in names]
        self.kept_down |= set(names)
        try:
            await asyncio.gather(*(process.kill() for process in processes))
            yield
        finally:
            await asyncio.gather(*(process.start() for process in processes))
            self.kept_down -= set(names)
