"""Light machines for tests: powered on, reached by the real SSH client, and off again at the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncssh

from sandbox.machines import MachineSpec
from sandbox.machines.light import LightMachine, LightMachines
from sandbox.settings import Settings
from tests.sandbox.light_nodes import eventually

_hosts = itertools.count(1)
_METADATA = {"Metadata-Flavor": "Google"}


class World:
    """Makes machines, and has the key that opens them."""

    def __init__(self, directory: Path, speed: float) -> None:
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.settings = Settings(state_dir=directory, speed=speed)
        self.machines = LightMachines(self.settings)
        self.made: list[LightMachine] = []

    def spec(self, name: str, gpu_count: int = 1, **metadata: str) -> MachineSpec:
        """Describe a machine with our key in its metadata, on an address outside those that sandboxes use."""
        public = self.key.export_public_key().decode().strip()
        items = {"ssh-keys": f"trainer:{public} test", "enable-guest-attributes": "TRUE"}
        items |= {key.replace("_", "-"): value for key, value in metadata.items()}
        return MachineSpec(
            name=name,
            project="demo-project",
            zone="us-central1-a",
            machine_type="n1-standard-8",
            instance_id=1234567890123456789 + next(_hosts),
            address=f"127.201.{os.getpid() % 250 + 1}.{next(_hosts)}",
            gpu_type="nvidia-tesla-t4" if gpu_count else None,
            gpu_count=gpu_count,
            metadata=items,
            service_account=None,
        )

    async def boot(self, name: str, gpu_count: int = 1, **metadata: str) -> LightMachine:
        """Boot a machine, and wait until its host key is published."""
        machine = self.machines.create(self.spec(name, gpu_count, **metadata))
        self.made.append(machine)
        await machine.boot()

        async def published() -> bool:
            return "hostkeys/ssh-ed25519" in machine.guest_attributes

        await eventually("host key", published)
        return machine

    @contextlib.asynccontextmanager
    async def ssh(self, machine: LightMachine, user: str = "trainer") -> AsyncIterator[asyncssh.SSHClientConnection]:
        """Connect, and verify the host key against the guest attributes."""
        published = f"ssh-ed25519 {machine.guest_attributes['hostkeys/ssh-ed25519']}"
        async with asyncssh.connect(
            machine.spec.address,
            self.settings.ssh_port,
            username=user,
            client_keys=[self.key],
            known_hosts=lambda *_: ([asyncssh.import_public_key(published)], [], []),
            config=None,
            agent_path=None,
            connect_timeout=5,
        ) as connection:
            yield connection

    async def run(self, machine: LightMachine, command: str, **options: Any) -> asyncssh.SSHCompletedProcess:
        """Run one command in a connection of its own."""
        async with self.ssh(machine) as connection:
            return await asyncio.wait_for(connection.run(command, **options), 120)

    async def metadata(self, machine: LightMachine, path: str, **params: str) -> aiohttp.ClientResponse:
        """Read a path below /computeMetadata/v1/ to its end."""
        url = f"http://{machine.spec.address}:{self.settings.metadata_port}/computeMetadata/v1/{path}"
        async with aiohttp.ClientSession() as session, session.get(url, params=params, headers=_METADATA) as response:
            await response.read()
            return response


@contextlib.asynccontextmanager
async def world(directory: Path, speed: float = 200.0) -> AsyncIterator[World]:
    """Make a world, and power off its machines in the end."""
    made = World(directory, speed)
    try:
        yield made
    finally:
        await asyncio.gather(*(machine.power_off(0) for machine in made.made))
