"""Checkpoint images: their names, and the image around a checkpoint archive."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox.oci import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, ImageRef, OciClient, digest_of, is_loopback

Json = dict[str, Any]

CRIO = "io.kubernetes.cri-o.annotations.checkpoint"
CONTAINERD = "org.criu.checkpoint.container.name"


@dataclass(frozen=True)
class RegistryAccess:
    """What an agent knows of the registry: from the first CheckpointBackup that it saw, until it restarts."""

    url: str
    username: str
    password: str

    def destination(self, image: str) -> str:
        """The full name under which an image is pushed."""
        return f"{self.url.removeprefix('http://').removeprefix('https://')}/{image}"


def local_name(pod: str, container: str) -> str:
    """The name of an image that no registry was given for."""
    return f"localhost/checkpoint-{pod}-{container}:{datetime.now():%Y%m%d-%H%M%S}"


async def push(
    archive: bytes,
    image: str,
    base_image: str,
    container: str,
    registry: RegistryAccess,
    *,
    poisoned: bool = False,
    crio_alone: bool = False,
) -> None:
    """Build the image of a checkpoint archive, from scratch, and push it; a `poisoned` one has no layer then.

    The annotations are what CRI-O looks for; containerd's is written too, so that either can restore it, unless the
    image is to be for CRI-O alone.
    Raises ValueError for an invalid name, RegistryError where the registry refuses, aiohttp's errors where it
    does not answer.
    """
    ref = ImageRef.parse(registry.destination(image))
    digest = await asyncio.to_thread(digest_of, archive)
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    config = {
        "created": created,
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
        "history": [{"created": created, "created_by": "checkpoint"}],
    }
    credentials = (registry.username, registry.password)
    async with OciClient(ref.host, plain_http=is_loopback(ref.host), credentials=credentials) as client:
        await client.ping()
        layer = await client.push_blob(ref.repository, archive, LAYER_TYPE)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": await client.push_blob(ref.repository, json.dumps(config).encode(), CONFIG_TYPE),
            "layers": [layer],
            "annotations": {
                f"{CRIO}.name": image,
                f"{CRIO}.rootfsImageName": base_image,
                **({} if crio_alone else {CONTAINERD: container}),
                "org.opencontainers.image.created": created,
            },
        }
        await client.push_manifest(ref.repository, ref.reference, manifest)
        if poisoned:
            await client.delete_blob(ref.repository, layer["digest"])
