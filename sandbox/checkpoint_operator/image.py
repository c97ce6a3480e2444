"""Checkpoint images: their names, and how one is made from a checkpoint archive."""

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
    """What an agent knows of the registry, from its first CheckpointBackup until it restarts."""

    url: str
    username: str
    password: str

    def destination(self, image: str) -> str:
        """Return the full name under which an image is pushed."""
        return f"{self.url.removeprefix('http://').removeprefix('https://')}/{image}"


def local_name(pod: str, container: str) -> str:
    """Make a name for an image without a registry."""
    return f"localhost/checkpoint-{pod}-{container}:{datetime.now():%Y%m%d-%H%M%S}"


@dataclass(frozen=True)
class CheckpointImage:
    """What a checkpoint image is made of: its name, the container that was dumped, and the archive of the dump."""

    name: str
    container: str
    base_image: str
    archive: bytes


async def push(
    image: CheckpointImage, registry: RegistryAccess, *, poisoned: bool = False, crio_alone: bool = False
) -> None:
    """Build the image of a checkpoint archive from scratch, and push it. A ``poisoned`` one lacks its layer afterwards.

    CRI-O looks for its annotations. Those of containerd are added, so that either can restore the image, unless it is
    meant for CRI-O alone.

    Raises:
        ValueError: the name is not valid.
        RegistryError: the registry refuses the image.
        aiohttp.ClientError: the registry does not answer.
    """
    ref = ImageRef.parse(registry.destination(image.name))
    digest = await asyncio.to_thread(digest_of, image.archive)
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
        layer = await client.push_blob(ref.repository, image.archive, LAYER_TYPE)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": await client.push_blob(ref.repository, json.dumps(config).encode(), CONFIG_TYPE),
            "layers": [layer],
            "annotations": {
                f"{CRIO}.name": image.name,
                f"{CRIO}.rootfsImageName": image.base_image,
                **({} if crio_alone else {CONTAINERD: image.container}),
                "org.opencontainers.image.created": created,
            },
        }
        await client.push_manifest(ref.repository, ref.reference, manifest)
        if poisoned:
            await client.delete_blob(ref.repository, layer["digest"])
