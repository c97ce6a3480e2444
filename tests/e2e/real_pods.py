"""Pods on real machines, checkpointed and restored by hand: two nodes, nothing of Outlast in between."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from sandbox.cluster import create_bootstrap_token
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
        """Its process goes on."""
        return self.phase == "Running" and bool(self.lines)


class Pods:
    """Makes pods in a namespace; the first node is where they begin, the second where they are restored."""

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
        for node in self.nodes:
            await self._rig.until(lambda name=node: self._rig.observer.get("nodes", name), 90, f"node {node}")
            await self._rig.kubectl("wait", f"node/{node}", "--for=condition=Ready", "--timeout=60s", deadline=70)

    async def down(self) -> None:
        """Delete the machines and their nodes."""
        for node in self.nodes:
            await vms.delete(self._rig.addresses["GCE_ENDPOINT"], node)
        await self._rig.kubectl("delete", "node", *self.nodes, "--ignore-not-found")

    async def start(self, name: str, script: str, **spec: Any) -> Json:
        """A pod that runs a Python script on the first node, once it has said `ready`; its manifest."""
        pod = self._pod(name, self.nodes[0], self._rig.addresses["TRAINING_IMAGE"], script, spec)
        await self._apply(pod)
        await self._said(name, "ready")
        return pod

    async def config_map(self, name: str, **files: str) -> None:
        """A ConfigMap with these files; `_` in a name stands for a dot."""
        data = {file.replace("_", "."): text for file, text in files.items()}
        await self._apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})

    async def checkpoint(self, name: str) -> str:
        """Let the operator checkpoint a pod; the image's name, or the reason why there is none."""
        registry = self._rig.addresses["REGISTRY"]
        reference = {"name": name, "namespace": self.namespace}
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

        status = await self._rig.until(ended, 60, f"the checkpoint of {name}")
        return f"{registry}/travels/{name}:1" if status["phase"] == "Completed" else str(status.get("message"))

    async def restore(self, name: str, pod: Json, image: str, ticks: int = 5) -> Restored:
        """A pod from a checkpoint's image on the second node, once it has said something, or has failed."""
        restored = json.loads(json.dumps(pod))
        restored["metadata"]["name"] = f"{name}-restored"
        restored["spec"]["nodeSelector"] = {"kubernetes.io/hostname": self.nodes[1]}
        restored["spec"]["containers"][0]["image"] = image
        await self._apply(restored)
        for _ in range(120):
            found = await self._get(f"{name}-restored")
            status = found.get("status") or {}
            container = next(iter(status.get("containerStatuses") or []), {"state": {}})
            state = next(iter(container["state"].values()), {})
            reason = f"{state.get('reason', '')} {state.get('message', '')}".strip()
            lines = await self._log(found) if status.get("phase") in ("Running", "Failed", "Succeeded") else []
            over = status.get("phase") in ("Failed", "Succeeded")
            stuck = state.get("reason") in ("CreateContainerError", "RunContainerError", "StartError")
            if over or stuck or len(lines) >= ticks:
                return Restored(status.get("phase", ""), lines, reason)
            await asyncio.sleep(0.25)
        return Restored(status.get("phase", ""), lines, reason)

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

    async def _get(self, name: str) -> Json:
        return dict(json.loads(await self._rig.kubectl("get", "pod", name, "-n", self.namespace, "-o", "json")))

    async def _log(self, pod: Json) -> list[str]:
        since = f"--since-time={pod['metadata']['creationTimestamp']}"
        text = await self._rig.kubectl("logs", pod["metadata"]["name"], "-n", self.namespace, since)
        return [line for line in text.splitlines() if line]

    async def _said(self, name: str, word: str) -> None:
        for _ in range(240):
            pod = await self._get(name)
            if (pod.get("status") or {}).get("phase") in ("Running", "Failed"):
                lines = await self._log(pod)
                if word in lines:
                    return
            await asyncio.sleep(0.25)
        raise AssertionError(f"{name} has not said {word!r}: {pod.get('status')}")

    async def _buy(self, name: str) -> None:
        token = await create_bootstrap_token(self._rig.kubectl)
        endpoint, pin = self._rig.addresses["CONTROL_PLANE_ENDPOINT"], self._rig.addresses["CA_CERT_HASH"]
        join = f"#!/bin/sh\nkubeadm join {endpoint} --token {token} --discovery-token-ca-cert-hash {pin}\n"
        await vms.insert(self._rig.addresses["GCE_ENDPOINT"], name, {"startup-script": join})
