"""The container images that real machines run, made without a container engine: a layer is a tar file."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox.machines.real.layers import packed
from sandbox.oci import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, OciClient, digest_of

Json = dict[str, Any]

PAUSE = "pause:1"
TRAINING = "training:1"
AGENT = "checkpoint-agent:1"
PRODUCT = "outlast:sandbox"
_REPOSITORY = Path(__file__).parents[3]
_PACKAGES = ("api", "activities", "clients", "crd_bridge", "programs", "worker", "workflows")
_PYTHON_ENVIRONMENT = [
    "PATH=/opt/outlast/bin:/usr/bin:/bin",
    "PYTHONPATH=/opt/outlast/lib",
    "PYTHONUNBUFFERED=1",
    "PYTHONDONTWRITEBYTECODE=1",
]
_SANDBOX = _REPOSITORY / "sandbox"
_AGENT_NEEDS = ("__init__.py", "kube_client.py", "oci.py")
_AUTHORITIES = Path("etc/ssl/certs/ca-certificates.crt")
_PROGRAM = Path(__file__).parent / "train.py"
_MODULES = "usr/lib/python3/dist-packages"
_SAVES = _REPOSITORY / "deploy/training/outlast_checkpoint.py"


async def push_pause(registry: str, machine: Path) -> None:
    """Push the image of a pod's first process, which does nothing."""
    layer = _tar({"busybox": (machine / "usr/bin/busybox").read_bytes()})
    await _push(registry, PAUSE, [layer], {"Entrypoint": ["/busybox", "sleep", "infinity"]})


async def push_training(registry: str, root: Path) -> str:
    """Push the image of ``train.py``, on a root file system with Python and NumPy, and return its name."""
    base = await asyncio.to_thread(_layer_of, root)
    program = _tar({_PROGRAM.name: _PROGRAM.read_bytes(), f"{_MODULES}/{_SAVES.name}": _SAVES.read_bytes()})
    config = {
        "Entrypoint": ["/usr/bin/python3", "-u", "/train.py"],
        "Env": ["PATH=/usr/bin:/bin", "OPENBLAS_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1"],
    }
    await _push(registry, TRAINING, [base, program], config)
    return f"{registry}/{TRAINING}"


async def push_product(registry: str, base: Path, dependencies: Path, machine: Path) -> str:
    """Push Outlast's own image, made as in ``deploy/Dockerfile``, and return its name."""
    # The Dockerfile's base has these, and a client of buckets cannot even be made without them.
    authorities = {str(_AUTHORITIES): (machine / _AUTHORITIES).read_bytes()}
    code = {
        f"srv/outlast/{file.relative_to(_REPOSITORY)}": file.read_bytes()
        for package in _PACKAGES
        for file in sorted((_REPOSITORY / package).rglob("*.py"))
    }
    layers = [await asyncio.to_thread(_layer_of, root) for root in (base, dependencies)]
    config = {
        "Entrypoint": ["python", "-m"],
        "Cmd": ["worker"],
        "Env": _PYTHON_ENVIRONMENT,
        "User": "65532:65532",
        "WorkingDir": "/srv/outlast",
    }
    await _push(registry, PRODUCT, [*layers, _tar(authorities | code, 0o644)], config)
    return f"{registry}/{PRODUCT}"


async def push_agent(registry: str, base: Path, dependencies: Path) -> str:
    """Push the image of the checkpoint operator's agent, ``sandbox.checkpoint_operator``, and return its name."""
    sources = [*_SANDBOX.joinpath("checkpoint_operator").glob("*.py"), *(_SANDBOX / name for name in _AGENT_NEEDS)]
    code = {f"srv/{file.relative_to(_REPOSITORY)}": file.read_bytes() for file in sorted(sources)}
    layers = [await asyncio.to_thread(_layer_of, root) for root in (base, dependencies)]
    config = {
        "Entrypoint": ["python", "-m", "sandbox.checkpoint_operator"],
        "Env": _PYTHON_ENVIRONMENT,
        "WorkingDir": "/srv",
    }
    await _push(registry, AGENT, [*layers, _tar(code, 0o644)], config)
    return f"{registry}/{AGENT}"


def _layer_of(root: Path) -> bytes:
    return packed(root).read_bytes()


def _tar(files: dict[str, bytes], mode: int = 0o755) -> bytes:
    """Make a layer of files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


async def _push(registry: str, name: str, layers: list[bytes], config: Json) -> None:
    repository, _, tag = name.partition(":")
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    image = {
        "created": created,
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        "history": [{"created": created, "created_by": "outlast sandbox"} for _ in layers],
    }
    async with OciClient(registry, plain_http=True) as client:
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": await client.push_blob(repository, json.dumps(image).encode(), CONFIG_TYPE),
            "layers": [await _push_layer(client, repository, layer) for layer in layers],
        }
        await client.push_manifest(repository, tag, manifest)


async def _push_layer(client: OciClient, repository: str, layer: bytes) -> Json:
    """Upload a layer, unless the registry has it from another image."""
    digest = await asyncio.to_thread(digest_of, layer)
    if await client.has_blob(repository, digest):
        return {"mediaType": LAYER_TYPE, "digest": digest, "size": len(layer)}
    return await client.push_blob(repository, layer, LAYER_TYPE)
