"""The checkpoint of one container: dump, image, push, each with its phase."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import aiohttp

from sandbox.checkpoint_operator import phases
from sandbox.checkpoint_operator.backup import Backup
from sandbox.checkpoint_operator.image import CheckpointImage, RegistryAccess, local_name, push
from sandbox.checkpoint_operator.node_access import DumpFailed, NodeAccess
from sandbox.checkpoint_operator.traps import CRI_O, FAIL, NO_IMAGE, POISON, SLOW, STICK, UNPUSHED, Trap
from sandbox.oci import ImageRef, RegistryError

Json = dict[str, Any]


class Unable(Exception):
    """The agent gives up for now and comes back later, like a controller that returned an error."""


class Stuck(Exception):
    """A trap was played: nothing happens to this CheckpointBackup any more."""


@dataclass(frozen=True)
class ContainerRun:
    """Turns one container of a pod into an image. Durations are emulated seconds."""

    node: NodeAccess
    registry: RegistryAccess | None
    backup: Backup
    pod: Json
    container: str
    wanted_image: str
    trap: Trap | None
    storage: Path
    build_seconds: float
    push_seconds: float

    async def run(self) -> None:
        """Go through all phases.

        Raises:
            Unable: the phase is Failed.
            Stuck: a trap was played.
            AgentDied: the machine went down.
        """
        archive = await self._dump()
        if not self.backup.spec.get("buildImage", True):
            await self._store(archive)
            return
        image = await self._build(archive)
        if self._plays(NO_IMAGE):
            return
        # As the real operator does it: an agent that knows a registry pushes there, even if this backup names another.
        pushes = "registry" in self.backup.spec and self.registry is not None and not self._plays(UNPUSHED)
        if pushes:
            await self._push(archive, image)
        await self.backup.add_image(self.container, image, pushed=pushes)
        archive.unlink(missing_ok=True)

    async def _dump(self) -> Path:
        await self._enter(phases.CHECKPOINTING, f"Dumping container {self.container}")
        reference = self.backup.spec["podRef"]
        try:
            archive = await self.node.dump(reference["namespace"], reference["name"], self.container)
        except DumpFailed as error:
            await self._fail(f"Dump of container {self.container} failed: {error}")
        await self.node.check()
        await self.backup.add_file(self.container, archive.name)
        await self._enter(phases.CHECKPOINTED, f"Dumped container {self.container} to {archive.name}")
        return archive

    async def _store(self, archive: Path) -> None:
        await self._enter(phases.STORING, f"Storing {archive.name}")
        stored = Path(self.backup.spec["podRef"]["namespace"], archive.name)
        target = self.storage / stored
        target.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(shutil.move, archive, target)
        await self.backup.set_storage_path(self.container, str(stored))
        await self._enter(phases.STORED, f"Stored {stored}")

    async def _build(self, archive: Path) -> str:
        image = self.wanted_image
        if "registry" not in self.backup.spec or not image:
            image = local_name(self.backup.spec["podRef"]["name"], self.container)
        await self._enter(phases.BUILDING, f"Building an image of container {self.container}")
        async with self._drawn_out():
            await self.node.spend(self.build_seconds)
            try:
                ImageRef.parse(image)
            except ValueError as error:
                await self._fail(f"Building the image of {archive.name} failed: {error}")
        await self._enter(phases.BUILT, f"Built {image}")
        return image

    async def _push(self, archive: Path, image: str) -> None:
        assert self.registry
        await self._enter(phases.PUSHING, f"Pushing {image}")
        async with self._drawn_out():
            await self.node.spend(self.push_seconds)
            try:
                content = await asyncio.to_thread(archive.read_bytes)
                await push(
                    CheckpointImage(image, self.container, self._base_image, content),
                    self.registry,
                    poisoned=self._plays(POISON),
                    crio_alone=self._plays(CRI_O),
                )
            except (RegistryError, ValueError, aiohttp.ClientError, TimeoutError, OSError) as error:
                await self._fail(f"Push of {image} failed: {error}")
        await self._enter(phases.PUSHED, f"Pushed {image}")

    @contextlib.asynccontextmanager
    async def _drawn_out(self) -> AsyncIterator[None]:
        """Make what happens within it take as many times as long as a trap says, in emulated or real time."""
        began = time.monotonic()
        yield
        if self.trap and self.trap.kind == SLOW:
            await self.node.stay((self.trap.factor - 1) * (time.monotonic() - began))

    async def _enter(self, phase: str, message: str) -> None:
        """Write a phase, unless the machine is dead.

        Raises:
            Stuck: a trap keeps it in this phase.
            Unable: a trap makes it fail in this phase.
        """
        await self.node.check()
        if self._plays(FAIL, phase):
            await self._fail(f"played: failure in {phase}")
        await self.backup.set_phase(phase, message)
        if self._plays(STICK, phase):
            raise Stuck(f"played: stuck in {phase}")

    async def _fail(self, message: str) -> NoReturn:
        await self.node.check()
        await self.backup.set_phase(phases.FAILED, message)
        raise Unable(message)

    def _plays(self, kind: str, phase: str = "") -> bool:
        return self.trap is not None and self.trap.kind == kind and (not phase or self.trap.phase == phase)

    @property
    def _base_image(self) -> str:
        containers = self.pod["spec"]["containers"]
        return next(str(entry["image"]) for entry in containers if entry["name"] == self.container)
