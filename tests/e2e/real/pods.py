"""Pods on real machines, checkpointed and restored by hand: two nodes, with nothing of Outlast in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sandbox.cluster import create_bootstrap_token
from sandbox.kubectl import child
from tests import vms
from tests.e2e.rig import Rig

Json = dict[str, Any]


@dataclass
class Restored:
    """What became of a pod that was made from a checkpoint's image."""

    phase: str
    lines: list[str]
    reason: str

    @property
    def runs(self) -> bool:
        """True if its process continues."""
        return self.phase == "Running" and bool(self.lines)


class Pods:
    """Makes pods in a namespace. They begin on the first node, and are restored on the second."""

    def __init__(self, rig: Rig, namespace: str) -> None:
        self._rig = rig
        self.namespace = namespace
        self.nodes = ("node-1", "node-2")
        self.api_server_port = rig.addresses["CONTROL_PLANE_ENDPOINT"].rpartition(":")[2]

    async def up(self) -> None:
        """Buy two machines that join by their startup script, and let the operator push."""
        await asyncio.gather(*map(self._buy, self.nodes))
        await self._apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "credentials"},
                "stringData": {"username": "u", "password": "p"},
            }
        )
        await asyncio.gather(*map(self._joined, self.nodes))

    async def start(self, name: str, script: str, *, ticks: int = 0, **spec: Any) -> Json:
        """Start a pod with a Python script on the first node, and return its manifest once it has printed `ready` and
        more.
        """
        pod = self._pod(name, self.nodes[0], self._rig.addresses["TRAINING_IMAGE"], script, spec)
        await self._apply(pod)
        status, lines = await self._said(name, lambda lines: "ready" in lines and len(lines) > ticks)
        assert "ready" in lines, status
        return pod

    async def config_map(self, name: str, **files: str) -> None:
        """Make a ConfigMap with these files; `_` in a name stands for a dot."""
        data = {file.replace("_", "."): text for file, text in files.items()}
        await self._apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})

    async def checkpoint(self, pod: str, name: str = "") -> str:
        """Let the operator checkpoint a pod, and return the image's name, or the reason why there is none.

        `name` is that of the CheckpointBackup and of the image, if it is not the pod's.
        """
        name = name or pod
        registry = self._rig.addresses["REGISTRY"]
        reference = {"name": pod, "namespace": self.namespace}
        await self._apply(
            {
                "apiVersion": "migration.dcnlab.com/v1",
                "kind": "CheckpointBackup",
                "metadata": {"name": name},
                "spec": {
                    "schedule": "immediately",
                    "podRef": reference,
                    "resourceRef": {"apiVersion": "v1", "kind": "Pod", **reference},
                    "registry": {
                        "url": f"http://{registry}",
                        "repository": "",
                        "secretRef": {"name": "credentials", "namespace": self.namespace},
                    },
                    "containers": [{"name": "main", "image": f"travels/{name}:1"}],
                },
            }
        )

        def ended() -> Json | None:
            backup = self._rig.observer.get("checkpointbackups", name, self.namespace) or {}
            status = backup.get("status") or {}
            return status if status.get("phase") in ("Completed", "Failed") else None

        status = await self._rig.until(ended, 60, f"the checkpoint {name} of {pod}")
        return f"{registry}/travels/{name}:1" if status["phase"] == "Completed" else str(status.get("message"))

    async def restore(self, name: str, pod: Json, image: str, ticks: int = 5) -> Restored:
        """Make a pod from a checkpoint's image on the second node, and wait until it has printed something or has
        failed.
        """
        restored = json.loads(json.dumps(pod))
        restored["metadata"]["name"] = f"{name}-restored"
        restored["spec"]["nodeSelector"] = {"kubernetes.io/hostname": self.nodes[1]}
        restored["spec"]["containers"][0]["image"] = image
        await self._apply(restored)
        status, lines = await self._said(f"{name}-restored", lambda lines: len(lines) >= ticks)
        state = _state(status)
        return Restored(status["phase"], lines, f"{state.get('reason', '')} {state.get('message', '')}".strip())

    def pushed_within(self, name: str) -> float:
        """Return how many seconds a CheckpointBackup was in the phase in which its image is pushed."""
        phases = [
            (each.at, (each.object.get("status") or {}).get("phase"))
            for each in self._rig.observer.history
            if (each.kind, each.name) == ("checkpointbackups", name)
        ]
        return next(at for at, phase in phases if phase == "ImagePushed") - next(
            at for at, phase in phases if phase == "ImagePushing"
        )

    def _pod(self, name: str, node: str, image: str, script: str, spec: Json) -> Json:
        container = {
            "name": "main",
            "image": image,
            "command": ["python3", "-u", "-c", script],
            **spec.pop("container", {}),
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "nodeSelector": {"kubernetes.io/hostname": node},
                "containers": [container],
                **spec,
            },
        }

    async def _apply(self, manifest: Json) -> None:
        await self._rig.kubectl("apply", "--namespace", self.namespace, "-f", "-", stdin=json.dumps(manifest))

    async def _said(self, name: str, enough: Callable[[list[str]], bool]) -> tuple[Json, list[str]]:
        """Wait until a pod has printed enough, has ended, or cannot start; return its status and its output."""
        pod: Json = {}

        def begun() -> bool:
            pod.update(self._rig.observer.get("pods", name, self.namespace) or {})
            return bool(pod) and (_is_over(pod["status"]) or pod["status"].get("phase") == "Running")

        async with asyncio.timeout(300):
            while True:
                await self._rig.until(begun, 60, f"{name} to start, or not to")
                lines = await self._lines(pod, enough)
                if enough(lines) or _is_over(pod["status"]):
                    return pod["status"], lines
                await asyncio.sleep(0.2)

    async def _lines(self, pod: Json, enough: Callable[[list[str]], bool]) -> list[str]:
        """Read its container's output, until that is enough or there is no more."""
        # A restored container's log may begin with that of the dumped one.
        since = f"--since-time={pod['metadata']['creationTimestamp']}"
        command = ("logs", "--follow", since, "--namespace", self.namespace, pod["metadata"]["name"])
        lines: list[str] = []
        async with child(self._rig.observer.kubeconfig, *command) as process:
            assert process.stdout is not None
            async for line in process.stdout:
                if text := line.decode().rstrip():
                    lines.append(text)
                if enough(lines):
                    break
        return lines

    async def _joined(self, node: str) -> None:
        await self._rig.until(lambda: self._rig.observer.get("nodes", node), 90, f"node {node}")
        await self._rig.kubectl("wait", f"node/{node}", "--for=condition=Ready", "--timeout=200s", deadline=210)

    async def _buy(self, name: str) -> None:
        token = await create_bootstrap_token(self._rig.kubectl)
        endpoint, pin = self._rig.addresses["CONTROL_PLANE_ENDPOINT"], self._rig.addresses["CA_CERT_HASH"]
        join = f"#!/bin/sh\nkubeadm join {endpoint} --token {token} --discovery-token-ca-cert-hash {pin}\n"
        await vms.insert(self._rig.addresses["GCE_ENDPOINT"], name, {"startup-script": join})


def _is_over(status: Json) -> bool:
    """True if a pod has ended, or its container cannot be started."""
    stuck = _state(status).get("reason") in ("CreateContainerError", "RunContainerError", "StartError")
    return stuck or status.get("phase") in ("Failed", "Succeeded")


def _state(status: Json) -> Json:
    """Describe the state of a pod's first container."""
    container = next(iter(status.get("containerStatuses") or []), {"state": {}})
    return dict(next(iter(container["state"].values()), {}))
