"""A light machine: one VM as a handful of servers on a loopback address, with a directory as its disk.

It is no container: commands and startup scripts run in that directory as the user who runs the sandbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from sandbox.cluster import expire_bootstrap_token
from sandbox.machines import MachineSpec
from sandbox.machines.light.guest import Guest, Invocation
from sandbox.machines.light.kubeadm import Host, install_containerd, kubeadm
from sandbox.machines.light.kubelet_service import KubeletUnit
from sandbox.machines.light.processes import Processes
from sandbox.machines.light.programs import (
    cloud_init,
    containerd_version,
    crictl,
    kubelet_version,
    nvidia_smi,
    systemctl,
)
from sandbox.machines.light.ssh import SshServer
from sandbox.machines.light.startup import StartupScript
from sandbox.machines.metadata import MetadataServer
from sandbox.machines.mishaps import Mishaps
from sandbox.settings import Settings

log = logging.getLogger(__name__)

BOOT_SECONDS = 15.0
GUEST_AGENT_SECONDS = 2.0
"""Emulated seconds from power-on until sshd answers, and then until the guest agent has published the host keys."""

OS_SHUTDOWN_SECONDS = 2.0
"""Emulated seconds that the operating system takes to go down once its services have ended."""

STOP_SECONDS = 90.0
"""How long systemd waits for processes that do not end on SIGTERM, in real seconds."""


class LightMachine:
    """One VM. Its disk, ``root``, survives a power-off; everything else is made anew at each boot."""

    def __init__(self, spec: MachineSpec, root: Path, settings: Settings) -> None:
        self.spec = spec
        self.root = root
        self._settings = settings
        self._serial: list[str] = []
        self._powered = False
        self._tasks: list[asyncio.Task[None]] = []
        self._shutdown: asyncio.Task[None] | None = None
        self._death: asyncio.Task[None] | None = None
        metadata_host = f"{spec.address}:{settings.metadata_port}"
        self.metadata = MetadataServer(spec, settings.metadata_port)
        self.kubelet = KubeletUnit(spec, root, metadata_host, settings.speed)
        self._processes = Processes(
            f"{spec.instance_id}-{secrets.token_hex(8)}", root, {"GCE_METADATA_HOST": metadata_host}
        )
        self._startup = StartupScript(root, spec.metadata, self._processes, self._say)
        self._mishaps = Mishaps()
        self._ssh: SshServer | None = None
        self._guest: Guest | None = None

    @property
    def guest_attributes(self) -> Mapping[str, str]:
        """What the guest has published, such as ``hostkeys/ssh-ed25519``."""
        return self.metadata.guest_attributes

    @property
    def powered(self) -> bool:
        """True if the power is on."""
        return self._powered

    async def boot(self) -> None:
        """Power on. sshd comes up later, as in reality.

        Raises:
            OSError: the machine's address and ports are taken.
        """
        if self._powered:
            return
        if self._death is not None:
            await asyncio.shield(self._death)
        self._shutdown = self._death = None
        self._powered = True
        self.root.mkdir(parents=True, exist_ok=True)
        self._say(f"Booting {self.spec.name} ({self.spec.machine_type}) in {self.spec.zone}")
        try:
            await self.metadata.start()
        except BaseException:
            self._powered = False
            raise
        self._tasks = [asyncio.create_task(self._come_up(), name=f"boot of {self.spec.name}")]

    def suffer(self, mishaps: Mishaps) -> None:
        """Play these mishaps on it from its next boot on."""
        self._mishaps = mishaps

    async def notice(self) -> None:
        """Make the metadata server announce that this VM will be preempted."""
        self.metadata.preempt()

    async def power_off(self, grace: float) -> None:
        """Press the power button (ACPI soft off): services and pods end, and after ``grace`` real seconds the power
        does.
        """
        if not self._powered:
            return
        if grace > 0:
            if self._shutdown is None:
                self._say("systemd-logind: Power key pressed short. Powering off...")
                self._shutdown = asyncio.create_task(self._shut_down(grace), name=f"shutdown of {self.spec.name}")
            await asyncio.wait({self._shutdown}, timeout=grace)
        if self._death is None:
            self._death = asyncio.create_task(self._cut_power(), name=f"power off of {self.spec.name}")
        await asyncio.shield(self._death)

    def serial_output(self) -> str:
        """Return what serial port 1 has written since the machine was made."""
        return "".join(self._serial)

    async def _come_up(self) -> None:
        """Go from power-on to a machine that is ready for work."""
        await asyncio.sleep(self._settings.scaled(BOOT_SECONDS))
        try:
            self._guest = Guest(
                self.root,
                {
                    "kubeadm": self._kubeadm,
                    "systemctl": systemctl({"kubelet": self.kubelet}, self._unit_states),
                    "nvidia-smi": nvidia_smi(self.spec),
                    "cloud-init": cloud_init,
                    "kubelet": kubelet_version,
                    "containerd": containerd_version,
                    "crictl": crictl(self.root),
                },
            )
            await self._guest.start()
            install_containerd(self.root)
            self._tasks.append(asyncio.create_task(self._startup.run(), name=f"startup script of {self.spec.name}"))
            self._ssh = SshServer(self.spec, self._settings.ssh_port, self.root, self._processes)
            await self._ssh.start()
            self._say("Started OpenBSD Secure Shell server.")
            if self.kubelet.configured:  # it was a node before it was stopped
                self._tasks.append(asyncio.create_task(self._restart_kubelet(), name=f"kubelet of {self.spec.name}"))
            await asyncio.sleep(self._settings.scaled(GUEST_AGENT_SECONDS))
            self._publish_host_key(self._ssh)
        except OSError as error:
            log.exception("%s does not come up", self.spec.name)
            self._say(f"boot failed: {error}")

    def _publish_host_key(self, ssh: SshServer) -> None:
        if self.spec.metadata.get("enable-guest-attributes", "").upper() != "TRUE":
            return
        kind, key = ssh.host_key.export_public_key().decode().split()[:2]
        self.metadata.publish(f"hostkeys/{kind}", key)

    async def _restart_kubelet(self) -> None:
        try:
            await self.kubelet.start()
        except RuntimeError as error:
            self._say(f"kubelet.service: {error}")

    def _unit_states(self) -> Mapping[str, str]:
        running = ("ssh", "sshd", "containerd", "google-guest-agent", "cron")
        return dict.fromkeys(running, "active") | {"google-startup-scripts": self._startup.state}

    async def _kubeadm(self, call: Invocation) -> int:
        clock_behind = timedelta(seconds=self._mishaps.clock_behind)
        host = Host(self.root, self.spec.name, self.kubelet, self._settings.scaled, self._about_to_join, clock_behind)
        return await kubeadm(host, call.argv, call.cwd, call.out, call.err)

    async def _about_to_join(self, token: str) -> None:
        """Play the mishaps of a join, once: the next join has a good token."""
        mishaps, self._mishaps = self._mishaps, Mishaps(clock_behind=self._mishaps.clock_behind)
        if mishaps.ssh_hangs and self._ssh is not None:
            self._ssh.hang()
        if mishaps.token_expires:
            await expire_bootstrap_token(self._settings.admin_kubeconfig, token)

    async def _shut_down(self, grace: float) -> None:
        """Do what the operating system does before it powers itself off."""
        await self.kubelet.shut_down(grace)
        self._processes.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        while self._processes.any and time.monotonic() < deadline:  # noqa: ASYNC110 - they are not our children
            await asyncio.sleep(0.1)
        await asyncio.sleep(self._settings.scaled(OS_SHUTDOWN_SECONDS))
        self._say("reboot: Power down")

    async def _cut_power(self) -> None:
        """Cut the power: from now on nothing of the machine answers, runs, or calls anybody."""
        self._powered = False
        if self._ssh is not None:
            self._ssh.cut()
        if self._shutdown is not None:
            self._shutdown.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self.kubelet.stop(), self.metadata.cut(), self._processes.kill())
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._guest is not None:
            await self._guest.cut()
        # What was just being started when the power went.
        await asyncio.gather(self.kubelet.stop(), self._processes.kill())
        if self._ssh is not None:
            self._ssh.cut()
        self.metadata.guest_attributes.clear()

    def _say(self, line: str) -> None:
        self._serial.append(f"{line}\n")


class LightMachines:
    """Makes light machines, each with its directory under ``<state>/vms/``."""

    idle_image = "sandbox/idle:1"
    """The name of an image that does nothing by itself; a light machine runs every image as a training."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._machines: dict[str, LightMachine] = {}

    def create(self, spec: MachineSpec) -> LightMachine:
        """Make a machine with an empty disk. A dead machine of the same name is forgotten together with its disk."""
        name = spec.name
        place = (spec.project, spec.zone)
        if (other := self._machines.get(name)) is not None and (other.spec.project, other.spec.zone) != place:
            # Names are unique only within a zone, and the other machine may be alive.
            name = f"{spec.name}.{spec.project}.{spec.zone}"
        root = self._settings.state_dir / "vms" / name
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(root)
        machine = self._machines[name] = LightMachine(spec, root, self._settings)
        return machine

    def machine(self, name: str) -> LightMachine:
        """Return the machine that was last made under ``name``.

        Raises:
            LookupError: there is none.
        """
        try:
            return self._machines[name]
        except KeyError:
            raise LookupError(
                f"no machine is called {name}; there are: {', '.join(self._machines) or 'none'}"
            ) from None
