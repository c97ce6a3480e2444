"""CheckpointBackups for the sandbox's own tests."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from sandbox.kube_client import KubeClient
from tests.sandbox.light_nodes import eventually

Json = dict[str, Any]

BACKUPS = "/apis/migration.dcnlab.com/v1/namespaces/{}/checkpointbackups"
FINALIZER = "checkpointbackup.migration.dcnlab.com/finalizer"
TERMINAL = ("Completed", "CompletedPodDeleted", "CompletedWithError", "Failed")
SILENCE = 1.5
"""Real seconds in which an operator at the tests' speed would have finished a checkpoint."""


class Backups:
    """Makes CheckpointBackups in a namespace that has a registry's credentials."""

    def __init__(self, admin: KubeClient, namespace: str, registry: str) -> None:
        self.admin = admin
        self.namespace = namespace
        self.registry = registry
        self.path = BACKUPS.format(namespace)

    async def create_secret(self, name: str = "credentials", **data: str) -> None:
        """Create the Opaque Secret that the operator reads."""
        content = data or {"username": "user", "password": "secret"}
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in content.items()}
        await self.admin.create(
            f"/api/v1/namespaces/{self.namespace}/secrets", {"metadata": {"name": name}, "data": encoded}
        )

    async def create(self, name: str, pod: str, image: str = "", **spec: Any) -> None:
        """Create a CheckpointBackup as Outlast does; ``spec`` overrides fields, and None leaves one out."""
        fields: Json = {
            "schedule": "immediately",
            "stopPod": False,
            "podRef": {"name": pod, "namespace": self.namespace},
            "resourceRef": {"apiVersion": "batch/v1", "kind": "Job", "name": pod, "namespace": self.namespace},
            "registry": {
                "url": f"http://{self.registry}",
                "repository": "unused",
                "secretRef": {"name": "credentials", "namespace": self.namespace},
            },
            "containers": [{"name": "trainer", "image": image or f"{self.namespace}/train:{name}"}],
            **spec,
        }
        body = {
            "apiVersion": "migration.dcnlab.com/v1",
            "kind": "CheckpointBackup",
            "metadata": {"name": name},
            "spec": {key: value for key, value in fields.items() if value is not None},
        }
        await self.admin.create(self.path, body)

    async def get(self, name: str) -> Json:
        """Read one CheckpointBackup."""
        return await self.admin.get(f"{self.path}/{name}")

    async def status(self, name: str) -> Json:
        """Read the status of one CheckpointBackup, empty if it has none."""
        status: Json = (await self.get(name)).get("status", {})
        return status

    async def reach(self, name: str, *phases: str, seconds: float = 150.0) -> Json:
        """Wait for one of the phases, by default for any terminal one, and return the status."""

        async def reached() -> Json | None:
            status = await self.status(name)
            return status if status.get("phase") in (phases or TERMINAL) else None

        return await eventually(f"CheckpointBackup {name} {phases}", reached, seconds, pause=0.02)

    async def stays_silent(self, name: str) -> None:
        """Check that nobody writes a status of it in the time in which a checkpoint would have been finished."""
        await asyncio.sleep(SILENCE)
        assert await self.status(name) == {}
