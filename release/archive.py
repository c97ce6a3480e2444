"""Container images as files: layers whose bytes depend on nothing but what is in them, and an archive in OCI's layout.

Source of the formats: the OCI image specification 1.1, layer.md, config.md and image-layout.md.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
"""The time of every file: a layer with the same files is the same layer."""
CREATED = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Layer:
    """One layer: its compressed bytes, and the digest of what they contain."""

    content: bytes
    diff_id: str


def layer(root: Path, without: Sequence[str] = ()) -> Layer:
    """Pack a directory. All of it belongs to root, and nobody else may write it, except for ``tmp``.

    Args:
        root: What becomes ``/``.
        without: Folders, relative to ``root``, that another layer has.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if any(name == each or name.startswith(f"{each}/") for each in without):
                continue
            entry = archive.gettarinfo(path, name)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = EPOCH
            entry.mode = 0o1777 if name == "tmp" else 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            if entry.isreg():
                with path.open("rb") as file:
                    archive.addfile(entry, file)
            else:
                archive.addfile(entry)
    content = packed.getvalue()
    return Layer(gzip.compress(content, 6, mtime=0), digest_of(content))


def write(target: Path, name: str, architecture: str, layers: Sequence[Layer], config: Json) -> str:
    """Write an image as one file, and return the digest of its manifest."""
    image = _encoded(
        {
            "created": CREATED,
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in layers]},
            "history": [{"created": CREATED, "created_by": "make image"} for _ in layers],
        }
    )
    manifest = _encoded(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _described(image, CONFIG_TYPE),
            "layers": [_described(each.content, LAYER_TYPE) for each in layers],
        }
    )
    annotations = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    platform = {"architecture": architecture, "os": "linux"}
    entry = {**_described(manifest, MANIFEST_TYPE), "platform": platform, "annotations": annotations}
    blobs = {_path(digest_of(each)): each for each in (image, manifest, *(each.content for each in layers))}
    files = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": _encoded({"schemaVersion": 2, "manifests": [entry]}),
        **blobs,
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for path, content in sorted(files.items()):
            info = tarfile.TarInfo(path)
            info.size, info.mtime = len(content), EPOCH
            archive.addfile(info, io.BytesIO(content))
    return digest_of(manifest)


def digest_of(content: bytes) -> str:
    """Return the digest of some content, in OCI's notation."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _encoded(value: Json) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _described(content: bytes, media_type: str) -> Json:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
