"""The whole sandbox: its parts come up in order, each with its time, and go down in the reverse order."""

from __future__ import annotations

import asyncio
import logging
import shlex
import socket
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import asyncssh

from sandbox import binaries, gpu_operator
from sandbox.binaries import Progress
from sandbox.checkpoint_operator import CheckpointOperator
from sandbox.checkpoint_operator.agent_pods import AgentPods
from sandbox.claims import claim_octet
from sandbox.cluster import Cluster
from sandbox.control_plane import ControlPlane
from sandbox.control_server import ControlServer
from sandbox.errors import SandboxError
from sandbox.existing_cluster import ExistingCluster
from sandbox.gce import GceEmulator
from sandbox.gpu_operator import GpuOperator
from sandbox.kubeconfig import write_private
from sandbox.object_store import ObjectStore
from sandbox.processes import Process
from sandbox.product import Product
from sandbox.product_pods import ProductPods
from sandbox.registry import Registry
from sandbox.settings import Settings
from sandbox.state import State, clear_up
from sandbox.surroundings import LightSurroundings, RealSurroundings, Surroundings
from sandbox.temporal_postgres import TemporalOnPostgres
from sandbox.temporal_server import TemporalServer

T = TypeVar("T")


class Cloud:
    """Runs one sandbox in this process. Before ``up`` and after ``down`` all parts are None; unwanted parts stay so."""

    def __init__(self, settings: Settings, progress: Progress = print) -> None:
        self.settings = settings
        self.control_plane: Cluster | None = None
        self.temporal: TemporalServer | TemporalOnPostgres | None = None
        self.registry: Registry | None = None
        self.operator: CheckpointOperator | AgentPods | None = None
        self.gpu_operator: GpuOperator | None = None
        self.gce: GceEmulator | None = None
        self.gce_endpoint: str | None = None
        self.object_store: ObjectStore | None = None
        self.product: Product | ProductPods | None = None
        self.control: ControlServer | None = None
        self.asked_to_stop = asyncio.Event()
        """Set by the control surface: whoever brought the cloud up takes it down then."""
        self._progress = progress
        self._surroundings: Surroundings | None = None
        self._teardown = AsyncExitStack()

    async def up(self) -> None:
        """Bring everything up. If a part fails, take down what is up already.

        Raises:
            SandboxError: a part cannot be started; the message says which, and why.
        """
        try:
            await self._bring_up()
        except BaseException:
            await self.down()
            raise

    async def down(self) -> None:
        """Take everything down; returns once no process is left."""
        await self._teardown.aclose()
        self.control_plane = self.temporal = self.registry = None
        self.operator = self.gpu_operator = self.gce = self.gce_endpoint = None
        self.object_store = self.product = self.control = None

    async def __aenter__(self) -> Cloud:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()

    @property
    def processes(self) -> dict[str, Process]:
        """The child processes by name."""
        found: list[Process] = []
        if self.control_plane:
            found += self.control_plane.processes
        found += self.temporal.processes if self.temporal else []
        found += [self.registry.process] if self.registry else []
        if self.product:
            found += self.product.processes
        return {process.name: process for process in found}

    @property
    def addresses(self) -> dict[str, str]:
        """The addresses of everything, as the lines of ``sandbox.env``."""
        found = {"SANDBOX_STATE": str(self.settings.state_dir), "SSH_KEY_FILE": str(self.ssh_key)}
        if self.control_plane:
            found["KUBECONFIG"] = str(self.control_plane.kubeconfig)
            found["CONTROL_PLANE_ENDPOINT"] = self.control_plane.endpoint
            found["CA_CERT_HASH"] = self.control_plane.ca_hash
        if self.temporal:
            found["TEMPORAL_ADDRESS"] = self.temporal.address
            found["TEMPORAL_UI"] = self.temporal.ui
        if self.registry:
            found["REGISTRY"] = self.registry.address
        if self._surroundings and self._surroundings.training_image:
            found["TRAINING_IMAGE"] = self._surroundings.training_image
        if self.gce_endpoint:
            found["GCE_ENDPOINT"] = self.gce_endpoint
        if self.object_store and self._surroundings:
            url = found["OBJECT_STORE"] = self.object_store.url
            # What a job's ``checkpointStorage.endpoint`` has to be: the job's pods must reach it too.
            found["OBJECT_STORE_ENDPOINT"] = self._surroundings.as_machines_reach(url)
        if self.control:
            found["CONTROL_URL"] = self.control.url
        return found

    @property
    def ssh_key(self) -> Path:
        """The installation's private key. The public key goes into the VMs' metadata."""
        return self.settings.state_dir / "ssh" / "id_ed25519"

    async def _bring_up(self) -> None:
        await self._claim()
        executables = await binaries.ensure(self._progress, self._built_parts)
        surroundings = self._surroundings = self._surroundings_of_machines(executables)
        self._teardown.push_async_callback(surroundings.down)
        await surroundings.up()
        self._write_ssh_key()
        await self._start_servers(executables)
        if self.control_plane and "gce" in self.settings.parts:
            await self._start_gce(surroundings, self.control_plane)
        if self.control_plane and self.settings.product:
            await self._start_product(surroundings, self.control_plane)
        self.control = ControlServer(self)
        self._teardown.push_async_callback(self.control.stop)
        await self._timed("control surface", self.control.start())
        urls = [self.control_plane.url] if self.control_plane else []
        await surroundings.publish([*self.addresses.values(), *urls])
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in self.addresses.items()]
        write_private(self.settings.env_file, "".join(lines))
        self._teardown.callback(self.settings.env_file.unlink, missing_ok=True)

    @property
    def _built_parts(self) -> set[binaries.Share]:
        """The parts whose executables are started."""
        built: set[binaries.Share] = set(self.settings.parts)
        if self.settings.kubeconfig:
            built.discard("kubernetes")
        if self.settings.machines == "real":
            built.add("node")
        if "temporal" in self.settings.parts and self.settings.temporal_service == "postgresql":
            built.add("temporal-service")
        return built

    def _surroundings_of_machines(self, executables: binaries.Binaries) -> Surroundings:
        if self.settings.machines == "real":
            return RealSurroundings(self.settings, executables, self._progress)
        return LightSurroundings(self.settings)

    async def _claim(self) -> None:
        state = State(self.settings.state_dir)
        await state.claim(keep=self.settings.keep)
        self._teardown.callback(state.release)
        self._log_to_file()
        self._teardown.push_async_callback(clear_up, self.settings.state_dir)
        if "gce" in self.settings.parts and self.settings.machines == "light" and not self.settings.octet:
            octet, claim = claim_octet(self.settings.ssh_port)
            self._teardown.callback(socket.socket.close, claim)
            self.settings = replace(self.settings, octet=octet)

    def _log_to_file(self) -> None:
        """Write the log of the parts in this process to a file beside those of the child processes."""
        self.settings.logs.mkdir(exist_ok=True)
        handler = logging.FileHandler(self.settings.logs / "sandbox.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger = logging.getLogger("sandbox")
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        self._teardown.callback(handler.close)
        self._teardown.callback(logger.removeHandler, handler)

    def _write_ssh_key(self) -> None:
        if self.ssh_key.exists():
            return
        key = asyncssh.generate_private_key("ssh-ed25519", comment="outlast-sandbox")
        # The public key comes first: if the private one exists, the pair is complete.
        self.ssh_key.parent.mkdir(exist_ok=True)
        self.ssh_key.with_suffix(".pub").write_bytes(key.export_public_key())
        write_private(self.ssh_key, key.export_private_key().decode())

    async def _start_servers(self, executables: binaries.Binaries) -> None:
        """Start the parts that need no other part, all at once."""
        starts: list[Awaitable[None]] = []
        if "kubernetes" in self.settings.parts:
            self.control_plane = self._cluster(executables)
            self._teardown.push_async_callback(self.control_plane.down)
            starts.append(self._timed("Kubernetes", self.control_plane.up()))
        if "temporal" in self.settings.parts:
            self.temporal = self._temporal_service(executables)
            self._teardown.push_async_callback(self.temporal.down)
            starts.append(self._timed("Temporal", self.temporal.up()))
        if "registry" in self.settings.parts:
            self.registry = Registry(self.settings, executables)
            self._teardown.push_async_callback(self.registry.down)
            starts.append(self._timed("registry", self.registry.up()))
        outcomes = await asyncio.gather(*starts, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _temporal_service(self, executables: binaries.Binaries) -> TemporalServer | TemporalOnPostgres:
        if self.settings.temporal_service == "postgresql":
            return TemporalOnPostgres(self.settings, executables)
        return TemporalServer(self.settings, executables)

    def _cluster(self, executables: binaries.Binaries) -> Cluster:
        if self.settings.kubeconfig:
            return ExistingCluster(self.settings, executables.kubectl)
        return ControlPlane(self.settings, executables)

    async def _start_gce(self, surroundings: Surroundings, cluster: Cluster) -> None:
        """Start the emulated cloud, and the operators that serve its nodes."""
        machines = await surroundings.machines(cluster, self.registry)
        self.operator = await surroundings.checkpoint_operator(cluster, self.registry)
        self._teardown.push_async_callback(self.operator.stop)
        await self._timed("checkpoint operator", self.operator.start())
        await self._timed("GPU operator", self._start_gpu_operator(cluster, machines.idle_image))
        self.gce = GceEmulator(self.settings, machines)
        self._teardown.push_async_callback(self.gce.stop)
        self.gce_endpoint = await self._timed("GCE", self.gce.start())
        self.object_store = ObjectStore()
        self._teardown.push_async_callback(self.object_store.stop)
        await self._timed("object store", self.object_store.start())
        await surroundings.serve_machines([self.object_store.url])

    async def _start_gpu_operator(self, cluster: Cluster, image: str) -> None:
        manifests = self.settings.state_dir / "gpu-operator.yaml"
        manifests.write_text(gpu_operator.manifest(image))
        await cluster.install("-f", manifests)
        kubeconfig = self.settings.state_dir / "gpu-operator.kubeconfig"
        await cluster.account(gpu_operator.ACCOUNT, gpu_operator.NAMESPACE, kubeconfig)
        self.gpu_operator = GpuOperator(kubeconfig)
        self._teardown.push_async_callback(self.gpu_operator.stop)
        await self.gpu_operator.start()

    async def _start_product(self, surroundings: Surroundings, cluster: Cluster) -> None:
        self.product = await surroundings.product(cluster, self.registry, self.addresses)
        self._teardown.push_async_callback(self.product.stop)
        await self._timed("Outlast", self.product.start())

    async def _timed(self, name: str, start: Awaitable[T]) -> T:
        began = time.monotonic()
        try:
            result = await start
        except TimeoutError as error:
            raise SandboxError(f"{name} is not up in time: {error}") from error
        self._progress(f"{name} is up after {time.monotonic() - began:.1f} s")
        return result
