"""Layers of images that every machine has from the start, as a VM has whose image was made with container images in it.

An image that is pulled later brings only its other layers; containerd identifies a layer by its digest and those of the
layers below it. A directory of layers contains ``store``, containerd's own records, which each machine copies, and
``snapshots``, the files, which all machines share.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from sandbox.oci import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, digest_of

Json = dict[str, Any]

UNPACK = Path(__file__).parent / "guest" / "unpack.sh"
NAME = "sandbox.invalid/layers:1"
"""The name of an image that nobody runs: containerd removes layers that belong to no image."""


def packed(root: Path) -> Path:
    """Pack a directory as a layer. The layer is kept beside it, because packing takes seconds."""
    layer = root.with_suffix(".tar")
    if not layer.exists():
        part = layer.with_suffix(".part")
        command = ["tar", "--sort=name", "--numeric-owner", "--directory", str(root), "--create", "--file", str(part)]
        subprocess.run([*command, "."], check=True)
        part.rename(layer)
    return layer


def write_archive(archive: Path, layers: list[Path]) -> None:
    """Write an image of these layers as a file in the OCI's layout, which containerd imports.

    Source of the format: the OCI image specification 1.1, image-layout.md.
    """
    digests = [digest_of(layer.read_bytes()) for layer in layers]
    rootfs = {"type": "layers", "diff_ids": digests}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()
    described = [
        {"mediaType": LAYER_TYPE, "digest": digest, "size": layer.stat().st_size}
        for digest, layer in zip(digests, layers, strict=True)
    ]
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": _blob(config, CONFIG_TYPE), "layers": described}
    ).encode()
    named = {**_blob(manifest, MANIFEST_TYPE), "annotations": {"io.containerd.image.name": NAME}}
    small = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [named]}).encode(),
        _path(digest_of(config)): config,
        _path(digest_of(manifest)): manifest,
    }
    with tarfile.open(archive, "w") as file:
        for name, content in small.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
        for digest, layer in zip(digests, layers, strict=True):
            file.add(layer, _path(digest))


def _blob(content: bytes, media_type: str) -> Json:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
