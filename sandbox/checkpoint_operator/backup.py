"""One CheckpointBackup at the API server: how it is read, and how its status is written piece by piece.

The operator never writes ``lastCheckpointTime``, ``observedGeneration`` and ``conditions``, so this does not either.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sandbox.kube_client import UNREACHABLE, ApiError, KubeClient

log = logging.getLogger(__name__)

Json = dict[str, Any]
Key = tuple[str, str]

GROUP = "migration.dcnlab.com"
COLLECTION = f"/apis/{GROUP}/v1/checkpointbackups"
FINALIZER = f"checkpointbackup.{GROUP}/finalizer"
TRIES = 3


class Backup:
    """Reads and writes one CheckpointBackup. ``object`` is its last known version, which is never changed in place."""

    def __init__(self, client: KubeClient, seen: Json) -> None:
        namespace, name = key_of(seen)
        self.namespace = namespace
        self.name = f"{namespace}/{name}"
        self.object = seen
        self._client = client
        self._path = f"/apis/{GROUP}/v1/namespaces/{namespace}/checkpointbackups/{name}"

    @property
    def spec(self) -> Json:
        """The spec."""
        spec: Json = self.object["spec"]
        return spec

    @property
    def phase(self) -> str:
        """The phase in its status, empty if it has none."""
        return str(self.object.get("status", {}).get("phase", ""))

    @property
    def uid(self) -> str:
        """The UID."""
        return str(self.object["metadata"]["uid"])

    @property
    def is_being_deleted(self) -> bool:
        """True if it is being deleted and waits for its finalizers."""
        return "deletionTimestamp" in self.object["metadata"]

    @property
    def has_finalizer(self) -> bool:
        """True if it has the operator's finalizer."""
        return FINALIZER in self.object["metadata"].get("finalizers", ())

    async def add_finalizer(self) -> None:
        """Add the operator's finalizer.

        Raises:
            ApiError: the API server refuses it; 409 if somebody else was faster.
        """
        # The API server refuses new finalizers on an object that is being deleted.
        if not self.has_finalizer and not self.is_being_deleted:
            await self._replace_finalizers([*self.object["metadata"].get("finalizers", ()), FINALIZER])

    async def remove_finalizer(self) -> None:
        """Remove the operator's finalizer.

        Raises:
            ApiError: the API server refuses it.
        """
        if self.has_finalizer:
            finalizers = self.object["metadata"]["finalizers"]
            await self._replace_finalizers([each for each in finalizers if each != FINALIZER])

    async def set_phase(self, phase: str, message: str) -> None:
        """Write the phase and the message."""

        def change(status: Json) -> None:
            status |= {"phase": phase, "message": message}

        await self._update(change)

    async def add_file(self, container: str, file: str) -> None:
        """Record the archive of a container."""
        entry = {"containerName": container, "filePath": file, "checkpointTime": _now()}
        await self._update(lambda status: status.setdefault("checkpointFiles", []).append(entry))

    async def set_storage_path(self, container: str, path: str) -> None:
        """Record the path at which a container's archive was stored."""

        def change(status: Json) -> None:
            for entry in status.get("checkpointFiles", ()):
                if entry["containerName"] == container:
                    entry["storagePath"] = path

        await self._update(change)

    async def add_image(self, container: str, image: str, *, pushed: bool) -> None:
        """Record the image of a container. If it was not ``pushed`` the field is absent, as by Go's ``omitempty``."""
        entry: Json = {"containerName": container, "imageName": image, "buildTime": _now()}
        if pushed:
            entry["pushed"] = True
        await self._update(lambda status: status.setdefault("builtImages", []).append(entry))

    async def _replace_finalizers(self, finalizers: list[str]) -> None:
        metadata = {**self.object["metadata"], "finalizers": finalizers}
        self.object = await self._client.replace(self._path, {**self.object, "metadata": metadata})

    async def _update(self, change: Callable[[Json], None]) -> None:
        """Change and write the status. The checkpoint goes on even if the object is gone or the write fails."""
        for attempt in range(TRIES):
            try:
                if attempt:
                    self.object = await self._client.get(self._path)
                status = copy.deepcopy(self.object.get("status", {}))
                change(status)
                self.object = await self._client.replace(f"{self._path}/status", {**self.object, "status": status})
                return
            except ApiError as error:
                if error.status != 409 or attempt == TRIES - 1:
                    log.warning("status of CheckpointBackup %s: %s", self.name, error)
                    return
            except UNREACHABLE as error:
                log.warning("status of CheckpointBackup %s: %s", self.name, error)
                return


def key_of(backup: Json) -> Key:
    """Return the namespace and the name of a CheckpointBackup."""
    return backup["metadata"]["namespace"], backup["metadata"]["name"]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
