"""What real machines stand on: their disks, their network, their images; and what of it outlives a crash."""

from __future__ import annotations

from pathlib import Path

from sandbox.binaries import Binaries, Progress
from sandbox.errors import SandboxError
from sandbox.machines.real import cgroups, images, sysctls
from sandbox.machines.real.disk import Disks
from sandbox.machines.real.machine import RealMachines, Site
from sandbox.machines.real.network import Network
from sandbox.machines.real.requirements import obstacle
from sandbox.settings import Settings


class Ground:
    """The ground of one sandbox's machines. Between `up` and `down` this process is in the cloud's network."""

    def __init__(self, settings: Settings, binaries: Binaries, progress: Progress) -> None:
        self._settings = settings
        self._binaries = binaries
        self._progress = progress
        self.network = Network()

    async def up(self) -> None:
        """Build what is missing, and enter the cloud's network.

        Raises:
            SandboxError: where this machine cannot carry real ones; the message says why.
        """
        if reason := obstacle():
            raise SandboxError(reason)
        disks = Disks(self._binaries.kubelet.parent, self._progress)
        self._root = await disks.machine()
        self._training = await disks.training()
        self._dependencies = await disks.product()
        self._layers = await disks.layers()
        sysctls.remember(self._settings.state_dir)
        await self.network.up()

    async def down(self) -> None:
        """Leave the cloud's network, and put back what was changed."""
        await self.network.down()
        clear(self._settings.state_dir)

    async def push_images(self, registry: str) -> str:
        """Put the images that machines need into the registry; the name of the training's."""
        await images.push_pause(registry, self._root)
        await images.push_agent(registry, self._training, self._dependencies)
        if self._settings.product:
            await images.push_product(registry, self._training, self._dependencies, self._root)
        return await images.push_training(registry, self._training)

    def machines(self, registry: str) -> RealMachines:
        """A maker of machines."""
        pause = f"{registry}/{images.PAUSE}"
        return RealMachines(Site(self._settings, self.network, self._root, self._layers, registry, pause))


def clear(state_dir: Path) -> None:
    """Remove what real machines leave behind on this one; their processes have ended before."""
    cgroups.remove(cgroups.parent(state_dir))
    sysctls.put_back(state_dir)
