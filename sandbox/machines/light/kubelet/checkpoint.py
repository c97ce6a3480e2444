"""Checkpoint archives: the tar that the kubelet's checkpoint endpoint leaves on the node.

The layout follows container runtimes (https://github.com/checkpoint-restore/checkpointctl): ``config.dump`` and
``spec.dump`` describe the container, and ``checkpoint/`` contains its memory: one JSON file instead of CRIU's images.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.machines.light.kubelet.process import Json

CRIO_ANNOTATION = "io.kubernetes.cri-o.annotations.checkpoint.name"
CONTAINERD_ANNOTATION = "org.criu.checkpoint.container.name"
MEMORY_FILE = "checkpoint/memory.json"


@dataclass(frozen=True)
class Checkpoint:
    """A dumped container: what is needed to restore it."""

    container: str
    base_image: str
    mounts: tuple[str, ...]
    memory: Json

    def write(self, path: Path, created: str) -> None:
        """Write the archive; ``created`` is the RFC 3339 time of the dump."""
        files = {
            "config.dump": {"name": self.container, "rootfsImageName": self.base_image, "checkpointedTime": created},
            "spec.dump": {"mounts": [{"destination": mount} for mount in self.mounts]},
            MEMORY_FILE: self.memory,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as archive:
            for name, content in files.items():
                data = json.dumps(content).encode()
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))

    @classmethod
    def read(cls, archive: bytes) -> Checkpoint:
        """Read an archive.

        Raises:
            ValueError: it is not a checkpoint archive.
        """
        try:
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                config, spec, memory = (_json(tar, name) for name in ("config.dump", "spec.dump", MEMORY_FILE))
            mounts = tuple(mount["destination"] for mount in spec["mounts"])
            return cls(config["name"], config["rootfsImageName"], mounts, memory)
        except (tarfile.TarError, KeyError) as error:
            raise ValueError(f"not a checkpoint archive: {error}") from error

    def refusal(self, container: str, mounts: Mapping[str, Path]) -> str | None:
        """Return why the runtime would refuse to restore it into such a container; None if it would not refuse.

        CRIU restores the mounts that the process had, so all of them have to exist again.
        """
        if container != self.container:
            return f"checkpoint of container {self.container!r} cannot be restored as {container!r}"
        if missing := sorted(set(self.mounts) - set(mounts)):
            return f"criu failed: type RESTORE: no mount at {', '.join(missing)}, where the source had one"
        return None


def is_checkpoint(manifest: Json) -> bool:
    """True if a manifest's annotations mark a checkpoint image, for CRI-O or for containerd."""
    annotations = manifest.get("annotations") or {}
    return CRIO_ANNOTATION in annotations or CONTAINERD_ANNOTATION in annotations


def _json(tar: tarfile.TarFile, name: str) -> Json:
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(name)
    return dict(json.load(file))
