"""The node's own objects at the API server: its Node, its status, its Lease."""

from __future__ import annotations

import asyncio
import logging
import platform
from datetime import UTC, datetime

from sandbox.kube_client import MERGE, STRATEGIC_MERGE, UNREACHABLE, ApiError, KubeClient
from sandbox.machines.light.kubelet.config import KubeletConfig
from sandbox.machines.light.kubelet.process import Json
from sandbox.machines.light.kubelet.runtime import now

log = logging.getLogger(__name__)

PORT = 10250
"""The port of every kubelet's API."""
CAPACITY = {"cpu": "12", "memory": "85Gi", "pods": "110", "ephemeral-storage": "100Gi"}
"""The capacity of every light node, beside its GPUs."""
GPU = "nvidia.com/gpu"
LEASE_SECONDS = 40
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
HEARTBEAT_SECONDS = 2.0
"""Seconds of real time between renewals of the Lease: fewer than the default 10, for short grace periods."""
CHECK_EVERY = 5
"""Heartbeats between checks whether somebody else has changed the node's conditions."""
NETWORK_SECONDS = 2.0
"""Emulated time from the registration until the network plugin is up and the node Ready."""
DEVICE_PLUGIN_SECONDS = 3.0
"""Emulated time from Ready until the GPU's device plugin has registered."""
REGISTER_SECONDS = 60.0

READY = ("True", "KubeletReady", "kubelet is posting ready status")
NO_NETWORK = ("False", "KubeletNotReady", "container runtime network not ready: cni plugin not initialized")
SHUTTING_DOWN = ("False", "KubeletNotReady", "node is shutting down")
PRESSURES = {
    "MemoryPressure": ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
}


class NodeObject:
    """Registers the Node and keeps it and its Lease up to date."""

    def __init__(self, client: KubeClient, config: KubeletConfig) -> None:
        self._client = client
        self._config = config
        self._name = config.node_name
        self._labels = {
            "kubernetes.io/hostname": config.node_name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            **config.node_labels,
        }
        self._path = f"/api/v1/nodes/{config.node_name}"
        self._uid = ""
        self._version = ""
        self._ready = NO_NETWORK
        self._ready_since = now()
        self._has_gpus = False

    async def register(self) -> None:
        """Create the Node, or take over the Node of this name.

        Raises:
            TimeoutError: the API server has refused for a minute.
        """
        async with asyncio.timeout(REGISTER_SECONDS):
            while True:
                try:
                    self._version = (await self._client.get("/version"))["gitVersion"]
                    self._uid = (await self._create_or_adopt())["metadata"]["uid"]
                    await self._write_status()
                    return
                except (ApiError, *UNREACHABLE) as error:
                    log.warning("node %s cannot register yet: %s", self._name, error)
                await asyncio.sleep(HEARTBEAT_SECONDS)

    async def run(self) -> None:
        """Become Ready, show the GPUs, and renew the Lease for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._heartbeat())
            await asyncio.sleep(NETWORK_SECONDS / self._config.speed)
            await self._become(READY)
            await asyncio.sleep(DEVICE_PLUGIN_SECONDS / self._config.speed)
            self._has_gpus = True
            await self._write_status_when_possible()

    async def say_shutting_down(self) -> None:
        """Turn NotReady because the machine goes down."""
        self._ready, self._ready_since = SHUTTING_DOWN, now()
        try:
            await self._write_status()
        except (ApiError, *UNREACHABLE) as error:
            log.warning("node %s cannot report that it is shutting down: %s", self._name, error)

    async def _become(self, ready: tuple[str, str, str]) -> None:
        if self._ready == SHUTTING_DOWN:
            return
        self._ready, self._ready_since = ready, now()
        await self._write_status_when_possible()

    async def _create_or_adopt(self) -> Json:
        provider = {"providerID": self._config.provider_id} if self._config.provider_id else {}
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self._name, "labels": self._labels},
            "spec": {"taints": [dict(taint) for taint in self._config.taints], **provider},
        }
        try:
            return await self._client.create("/api/v1/nodes", body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        # As the kubelet does it: labels are updated, but taints of an existing Node are left alone.
        return await self._client.patch(self._path, {"metadata": {"labels": self._labels}}, MERGE)

    async def _heartbeat(self) -> None:
        beats = 0
        while True:
            try:
                await self._renew_lease()
                beats += 1
                if beats % CHECK_EVERY == 0:
                    await self._correct_status()
            except (ApiError, *UNREACHABLE) as error:
                log.debug("node %s: heartbeat: %s", self._name, error)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _renew_lease(self) -> None:
        spec = {
            "holderIdentity": self._name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        try:
            await self._client.patch(f"{LEASES}/{self._name}", {"spec": spec}, MERGE)
        except ApiError as error:
            if error.status != 404:
                raise
            owner = {"apiVersion": "v1", "kind": "Node", "name": self._name, "uid": self._uid}
            metadata = {"name": self._name, "namespace": "kube-node-lease", "ownerReferences": [owner]}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            await self._client.create(LEASES, lease)

    async def _correct_status(self) -> None:
        """Write the status again if the node controller has meanwhile marked the node as lost."""
        node = await self._client.get(self._path)
        conditions = node.get("status", {}).get("conditions", ())
        seen = next((entry["status"] for entry in conditions if entry["type"] == "Ready"), None)
        if seen != self._ready[0]:
            self._ready_since = now()
            await self._write_status()

    async def _write_status_when_possible(self) -> None:
        while True:
            try:
                await self._write_status()
                return
            except ApiError as error:
                if error.status == 404:
                    log.warning("Node %s was deleted; the kubelet does not create it again", self._name)
                    return
                log.warning("node %s: status: %s", self._name, error)
            except UNREACHABLE as error:
                log.debug("node %s: status: %s", self._name, error)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _write_status(self) -> None:
        await self._client.patch(f"{self._path}/status", {"status": self._status()}, STRATEGIC_MERGE)

    def _status(self) -> Json:
        gpus = {GPU: str(self._config.gpu_count)} if self._has_gpus and self._config.gpu_count else {}
        resources = {**CAPACITY, **gpus}
        return {
            "addresses": [
                {"type": "InternalIP", "address": self._config.address},
                {"type": "Hostname", "address": self._name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": PORT}},
            "capacity": resources,
            "allocatable": resources,
            "conditions": self._conditions(),
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": self._uid,
                "containerRuntimeVersion": "cri-o://1.34.1",
                "kernelVersion": platform.release(),
                "kubeProxyVersion": "",
                "kubeletVersion": self._version,
                "machineID": self._uid,
                "operatingSystem": "linux",
                "osImage": "Outlast light machine",
                "systemUUID": self._uid,
            },
        }

    def _conditions(self) -> list[Json]:
        status, reason, message = self._ready
        ready = {"type": "Ready", "status": status, "reason": reason, "message": message}
        pressures: list[Json] = [
            {"type": kind, "status": "False", "reason": reason, "message": message}
            for kind, (reason, message) in PRESSURES.items()
        ]
        times = {"lastHeartbeatTime": now(), "lastTransitionTime": self._ready_since}
        return [{**condition, **times} for condition in (*pressures, ready)]
