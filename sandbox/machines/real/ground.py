"""What real machines need below them: disks, a network, images; and what of it survives a crash."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from sandbox.binaries import Binaries, Progress
from sandbox.errors import SandboxError
from sandbox.machines.real import cgroups, images
from sandbox.machines.real.disk import Disks
from sandbox.machines.real.machine import RealMachines, Site
from sandbox.machines.real.network import Network
from sandbox.machines.real.requirements import obstacle
from sandbox.settings import Settings

_INOTIFY = "fs/inotify/max_user_instances"
_INSTANCES = 1024
"""Each machine's kubelet, containerd and containers have some. By default a user may have 128, and a kubelet that gets
none ends with ``inotify_init: too many open files``.
"""
_SYSCTLS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", _INOTIFY)
"""What a kubelet sets for the whole machine that it runs on, and what it needs there."""
_FILE = "sysctls.json"


class Ground:
    """The ground of one sandbox's machines. Between ``up`` and ``down`` this process is in the cloud's network."""

    def __init__(self, settings: Settings, binaries: Binaries, progress: Progress) -> None:
        self._settings = settings
        self._binaries = binaries
        self._progress = progress
        self.network = Network()

    async def up(self) -> None:
        """Build what is missing, and enter the cloud's network.

        Raises:
            SandboxError: real machines cannot run here; the message says why.
        """
        if reason := obstacle():
            raise SandboxError(reason)
        disks = Disks(self._binaries.kubelet.parent, self._progress)
        self._root = await disks.machine()
        self._training = await disks.training()
        self._dependencies = await disks.product()
        self._layers = await disks.layers()
        _remember_sysctls(self._settings.state_dir)
        _let_machines_watch_files()
        await self.network.up()

    async def down(self) -> None:
        """Leave the cloud's network, and restore what was changed."""
        await self.network.down()
        clear(self._settings.state_dir)

    async def push_images(self, registry: str) -> str:
        """Push the images that machines need into the registry, and return the name of the training's image."""
        await images.push_pause(registry, self._root)
        await images.push_agent(registry, self._training, self._dependencies)
        if self._settings.product:
            await images.push_product(registry, self._training, self._dependencies, self._root)
        return await images.push_training(registry, self._training)

    def machines(self, registry: str) -> RealMachines:
        """Return what makes the machines."""
        pause = f"{registry}/{images.PAUSE}"
        return RealMachines(Site(self._settings, self.network, self._root, self._layers, registry, pause))


def clear(state_dir: Path) -> None:
    """Remove what real machines leave behind on this machine; their processes must have ended before."""
    cgroups.remove(cgroups.parent(state_dir))
    _put_back_sysctls(state_dir)


def _remember_sysctls(state_dir: Path) -> None:
    """Record the settings, unless a crashed sandbox has recorded them before its own kubelets changed them."""
    file = state_dir / _FILE
    if not file.exists():
        file.write_text(json.dumps({name: Path("/proc/sys", name).read_text().strip() for name in _SYSCTLS}))


def _let_machines_watch_files() -> None:
    """Raise the number of inotify instances, unless it is higher already."""
    instances = Path("/proc/sys", _INOTIFY)
    instances.write_text(str(max(_INSTANCES, int(instances.read_text()))))


def _put_back_sysctls(state_dir: Path) -> None:
    """Restore the recorded settings."""
    with contextlib.suppress(FileNotFoundError):
        for name, value in json.loads((state_dir / _FILE).read_text()).items():
            Path("/proc/sys", name).write_text(value)
        (state_dir / _FILE).unlink()
