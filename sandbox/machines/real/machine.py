"""A real machine: a VM made of namespaces, with its own root, network, sshd, containerd, kubelet, metadata server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.gpu_operator import GPU_LABEL
from sandbox.machines import MachineSpec
from sandbox.machines.metadata import MetadataServer
from sandbox.machines.mishaps import Mishaps
from sandbox.machines.real import cgroups, netns
from sandbox.machines.real.forward import Forward
from sandbox.machines.real.network import METADATA, Network, pods
from sandbox.processes import GO, OWNER, kill
from sandbox.settings import Settings

log = logging.getLogger(__name__)

_GUEST = Path(__file__).parent / "guest"
_IN_SBIN = ("services", "guest-agent", "logind", "gpus", "soft-off")

_CNI = """{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true,
"ipMasq": false, "hairpinMode": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "%s"}]],
"routes": [{"dst": "0.0.0.0/0"}]}}]}
"""


@dataclass(frozen=True)
class Site:
    """What all machines of a sandbox share."""

    settings: Settings
    network: Network
    root: Path
    """The file system below each machine's own."""
    layers: Path
    """What containerd has there from the start (``layers.py``)."""
    registry: str
    """host:port of the registry on loopback; every machine reaches it under the same name."""
    pause: str
    """The image of a pod's first process."""


class RealMachine:
    """One VM. Its disk survives a power-off; everything else is made anew at each boot."""

    def __init__(self, spec: MachineSpec, directory: Path, site: Site) -> None:
        self.spec = spec
        self.directory = directory
        self._site = site
        self._group = f"{cgroups.parent(site.settings.state_dir)}/{spec.name}"
        self._serial = directory / "serial.log"
        self._process: asyncio.subprocess.Process | None = None
        self._first: int | None = None
        self._pods: int | None = None
        self._registry: Forward | None = None
        self._going_off = asyncio.Lock()
        self.metadata = MetadataServer(spec, 80)

    @property
    def guest_attributes(self) -> Mapping[str, str]:
        """What the guest has published, such as ``hostkeys/ssh-ed25519``."""
        return self.metadata.guest_attributes

    async def boot(self) -> None:
        """Power on; sshd comes up a moment later.

        Raises:
            SandboxError: its network cannot be made.
            OSError: it cannot be started.
        """
        if self._process is not None:
            return
        cgroups.make(self._group)
        with self._serial.open("ab") as serial:
            self._process = await asyncio.create_subprocess_exec(
                "unshare", "--mount", "--uts", "--ipc", "--pid", "--net", "--propagation", "private",
                "--fork", "--kill-child", "bash", str(_GUEST / "boot.sh"),
                str(self.directory), str(self._site.root), self.spec.name, str(self._site.layers),
                env={"PATH": _PATH, OWNER: str(self._site.settings.state_dir), **GO},
                stdin=asyncio.subprocess.PIPE, stdout=serial, stderr=serial, start_new_session=True,
            )  # fmt: skip
        try:
            self._first = await self._first_process()
            await self._connect(self._first)
        except BaseException:
            await self.power_off(0)
            raise
        assert self._process.stdin
        self._process.stdin.write(b"go\n")
        await self._process.stdin.drain()
        self._process.stdin.close()

    def suffer(self, mishaps: Mishaps) -> None:
        """Refuse mishaps: it has its host's clock, and an sshd and a kubeadm of its own."""
        if mishaps:
            raise NotImplementedError(f"{mishaps} on a real machine")

    async def notice(self) -> None:
        """Make the metadata server announce that this VM will be preempted."""
        self.metadata.preempt()

    async def power_off(self, grace: float) -> None:
        """Press the power button (ACPI soft off): containers end, and after ``grace`` real seconds the power goes.

        It also goes if this call is cancelled. A second caller waits for the same end.
        """
        async with self._going_off:
            if self._process is None:
                return
            try:
                if grace > 0 and self._first:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(grace):
                            await self._soft_off(self._first)
            finally:
                await self._cut(self._process)
                self._process = None

    async def _cut(self, process: asyncio.subprocess.Process) -> None:
        await self._site.network.unplug(self.spec.address)
        if self._first:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)  # its child, the first in its namespace, takes all others along
        else:
            kill(process)
        cgroups.thaw(self._group)
        await process.wait()
        cgroups.thaw(self._group)
        self._first = None
        await self.metadata.cut()
        if self._registry:
            await self._registry.stop()
            self._registry = None
        if self._pods is not None:
            await self._site.network.detach(self._pods)
            self._pods = None
        self.metadata.guest_attributes.clear()
        await self._remove_cgroups()

    def serial_output(self) -> str:
        """Return what serial port 1 has written since the machine was made."""
        with contextlib.suppress(FileNotFoundError):
            return self._serial.read_text(errors="replace")
        return ""

    async def _first_process(self) -> int:
        """Return the pid of the first process in its namespaces, as seen from outside."""
        assert self._process
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        async with asyncio.timeout(10):
            while not (found := children.read_text().split()):  # noqa: ASYNC110, ASYNC240 - /proc tells nobody
                await asyncio.sleep(0.01)
        return int(found[0])

    async def _connect(self, pid: int) -> None:
        self._pods = await self._site.network.attach(pid, self.spec.address)
        self._configure(self._pods)
        namespace = netns.of_process(pid)
        try:
            await self.metadata.start(netns.listen(namespace, METADATA, 80))
            host, _, port = self._site.registry.partition(":")
            # containerd uses plain HTTP by itself for loopback, and for nothing else.
            self._registry = Forward(netns.listen(namespace, host, int(port)), host, int(port))
            await self._registry.start()
        finally:
            netns.close(namespace)

    def _configure(self, number: int) -> None:
        """Write those files to the machine's disk that differ from machine to machine."""
        upper = self.directory / "upper"
        for name, text in {
            "etc/cni/net.d/10-pods.conflist": _CNI % pods(number),
            "etc/containerd/conf.d/sandbox.toml": string.Template((_GUEST / "containerd.toml").read_text()).substitute(
                PAUSE=self._site.pause
            ),
            "etc/default/kubelet": f"KUBELET_EXTRA_ARGS='{self._kubelet_arguments}'\n",
            "etc/sandbox-gpus": f"{self.spec.gpu_count}\n",
        }.items():
            (upper / name).parent.mkdir(parents=True, exist_ok=True)
            (upper / name).write_text(text)

    @property
    def _kubelet_arguments(self) -> str:
        labels = f" --node-labels={GPU_LABEL}" if self.spec.gpu_count else ""
        return f"--cgroup-root=/{self._group}{labels}"

    async def _soft_off(self, pid: int) -> None:
        command = ("nsenter", "--target", str(pid), "--all", "--", "/usr/local/sbin/soft-off")
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL, env={"PATH": _PATH})
        try:
            await process.wait()
        except asyncio.CancelledError:
            kill(process)
            raise

    async def _remove_cgroups(self) -> None:
        """Remove its cgroups once the kernel has released the last of its processes."""
        for _ in range(50):
            cgroups.remove(self._group)
            if not cgroups.exists(self._group):
                return
            await asyncio.sleep(0.1)
        log.warning("cgroups of %s remain: /%s", self.spec.name, self._group)


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class RealMachines:
    """Makes real machines, each with its directory under ``<state>/vms/``."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def create(self, spec: MachineSpec) -> RealMachine:
        """Make a machine with a fresh disk. A dead machine of the same name is forgotten together with its disk."""
        directory = self._site.settings.state_dir / "vms" / spec.name
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(directory)
        for name in ("upper/usr/local/sbin", "upper/usr/local/bin", "upper/usr/bin", "work", "root", "var"):
            (directory / name).mkdir(parents=True)
        for name in _IN_SBIN:
            shutil.copy(_GUEST / name, directory / "upper/usr/local/sbin")
        shutil.copy(_GUEST / "systemctl", directory / "upper/usr/bin")
        shutil.copy(_GUEST / "kubeadm", directory / "upper/usr/local/bin")
        return RealMachine(spec, directory, self._site)

    @property
    def idle_image(self) -> str:
        """The name of an image that does nothing."""
        return self._site.pause
