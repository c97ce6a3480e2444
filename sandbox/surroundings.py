"""What differs in a sandbox with the kind of its machines: what they are, who serves their nodes, who reaches whom."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from sandbox.binaries import Binaries, Progress
from sandbox.checkpoint_operator import ACCOUNT, ACCOUNT_NAMESPACE, RBAC, CheckpointOperator
from sandbox.checkpoint_operator.agent_pods import AgentPods
from sandbox.cluster import Cluster
from sandbox.control_plane import ControlPlane
from sandbox.machines.light import LightMachines
from sandbox.machines.real import RealMachines, images
from sandbox.machines.real.ground import Ground
from sandbox.machines.real.network import DNS, as_machines_reach
from sandbox.product import Product
from sandbox.product_pods import ProductPods
from sandbox.registry import Registry
from sandbox.settings import Settings

if TYPE_CHECKING:
    from sandbox.machines.real.dns import NameServer


class Surroundings(Protocol):
    """The surroundings of one kind of machines. ``Cloud`` calls the methods in this order."""

    training_image: str | None
    """The image of a training, if the machines need one of their own."""

    async def up(self) -> None:
        """Prepare this machine, before any server starts.

        Raises:
            SandboxError: such machines cannot run here; the message says why.
        """

    async def down(self) -> None:
        """Undo what was prepared."""

    async def machines(self, cluster: Cluster, registry: Registry | None) -> LightMachines | RealMachines:
        """Return what makes the machines, once what they need is in the registry."""

    async def checkpoint_operator(self, cluster: Cluster, registry: Registry | None) -> CheckpointOperator | AgentPods:
        """Return the checkpoint operator for their nodes, not started yet."""

    def as_machines_reach(self, address: str) -> str:
        """Return an address on 127.0.0.1 as machines and their pods reach it."""

    async def serve_machines(self, addresses: Iterable[str]) -> None:
        """Let machines and pods reach these servers, which listen on 127.0.0.1."""

    async def product(
        self, cluster: Cluster, registry: Registry | None, addresses: Mapping[str, str]
    ) -> Product | ProductPods:
        """Return the installation of Outlast, not started yet."""

    async def publish(self, addresses: Iterable[str]) -> None:
        """Let the user reach these servers."""


class LightSurroundings:
    """Light machines share the host's network, so everybody reaches everything."""

    training_image: str | None = None

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def up(self) -> None:
        """Prepare nothing."""

    async def down(self) -> None:
        """Undo nothing."""

    async def machines(self, cluster: Cluster, registry: Registry | None) -> LightMachines:
        """Return what makes light machines."""
        return LightMachines(self._settings)

    async def checkpoint_operator(self, cluster: Cluster, registry: Registry | None) -> CheckpointOperator:
        """Return an operator in this process, with an account of its own in the cluster."""
        await cluster.install("-f", RBAC)
        kubeconfig = self._settings.state_dir / "checkpoint-operator.kubeconfig"
        await cluster.account(ACCOUNT, ACCOUNT_NAMESPACE, kubeconfig)
        return CheckpointOperator(kubeconfig, self._settings.speed)

    def as_machines_reach(self, address: str) -> str:
        """Return the address as it is."""
        return address

    async def serve_machines(self, addresses: Iterable[str]) -> None:
        """Do nothing: they reach these servers already."""

    async def product(self, cluster: Cluster, registry: Registry | None, addresses: Mapping[str, str]) -> Product:
        """Return Outlast with its workers and bridges as child processes."""
        return Product(self._settings, cluster, addresses)

    async def publish(self, addresses: Iterable[str]) -> None:
        """Do nothing: the user reaches these servers already."""


class RealSurroundings:
    """Real machines are in a network of their own, with agents and Outlast in pods."""

    def __init__(self, settings: Settings, executables: Binaries, progress: Progress) -> None:
        self.training_image: str | None = None
        self._settings = settings
        self._progress = progress
        self._ground = Ground(settings, executables, progress)
        self._names: NameServer | None = None

    async def up(self) -> None:
        """Build the disks, and enter the cloud's network.

        Raises:
            SandboxError: real machines cannot run here; the message says why.
        """
        await self._ground.up()

    async def down(self) -> None:
        """Leave the cloud's network, and restore what was changed."""
        if self._names:
            await self._names.stop()
        await self._ground.down()

    async def machines(self, cluster: Cluster, registry: Registry | None) -> RealMachines:
        """Push the images that machines need, and return what makes real machines."""
        assert isinstance(cluster, ControlPlane)
        assert registry
        from sandbox.machines.real.dns import NameServer  # light machines do without the package that it needs

        await self._ground.network.serve_pods(cluster.port)
        self._names = NameServer(cluster.kubeconfig)
        await self._names.start(DNS)
        began = time.monotonic()
        self.training_image = await self._ground.push_images(registry.address)
        self._progress(f"images are up after {time.monotonic() - began:.1f} s")
        return self._ground.machines(registry.address)

    async def checkpoint_operator(self, cluster: Cluster, registry: Registry | None) -> AgentPods:
        """Return an operator whose agents run in pods of the cluster."""
        assert registry
        return AgentPods(cluster, f"{registry.address}/{images.AGENT}", self._settings.state_dir)

    def as_machines_reach(self, address: str) -> str:
        """Return the address with the control plane's host."""
        return as_machines_reach(address)

    async def serve_machines(self, addresses: Iterable[str]) -> None:
        """Let machines and pods reach these servers at the control plane's address."""
        await self._ground.network.serve_machines(addresses)

    async def product(self, cluster: Cluster, registry: Registry | None, addresses: Mapping[str, str]) -> ProductPods:
        """Return Outlast in pods, which reach Temporal and the emulated cloud."""
        assert registry
        await self.serve_machines([addresses["TEMPORAL_ADDRESS"], addresses["GCE_ENDPOINT"]])
        return ProductPods(self._settings, cluster, addresses, self._ground.machines(registry.address))

    async def publish(self, addresses: Iterable[str]) -> None:
        """Let the user reach these servers under the same ports outside the cloud's network."""
        await self._ground.network.publish(addresses)
