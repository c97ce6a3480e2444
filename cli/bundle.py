"""``outlast support-bundle``: what somebody else needs to find out what is wrong, in one file, without secrets.

It has what your rights can read. What they cannot is named in the bundle and is no error. Secrets are never read, and
:mod:`cli.redaction` takes out of everything else what looks like one. The training's own log is left out: it is yours.
"""

import io
import json
import os
import tarfile
from collections import deque
from collections.abc import Awaitable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from temporalio.service import RPCError

from api import names
from api.spot_instance_job import vm_name_in
from cli import doctor, histories
from cli.histories import machines_of
from cli.redaction import Redactor
from cli.session import Cluster, console, status_of
from clients.kube import Json, KubeError, path, selector

MOST_OBJECTS = 500
"""Objects of one kind in a bundle."""
LOG_BYTES = 2 * 2**20
"""Bytes of one container's log: the last ones."""
EVENTS = "events.k8s.io/v1"
LOG_LINES = 20_000
LOG_SECONDS = 60.0
LARGEST = 128 * 2**20
"""Bytes of a bundle before it is compressed."""
MISSES = (KubeError, RPCError, ConnectionError, aiohttp.ClientError, TimeoutError)
"""What keeps one part out of a bundle, and not the bundle from being made."""

ABOUT = """\
A support bundle of Outlast, made {at:%Y-%m-%d %H:%M} UTC for {what}.

It may still contain names of your jobs, images, buckets, projects and machines. Look through it before you pass it on.

Taken out, and replaced by [redacted] (Secrets of the cluster were never read):
{taken}

Left out: the training's own log. Payloads that Temporal stores encrypted are still encrypted.

Could not be had:
{missed}
"""


@dataclass
class Bundle:
    """What was read so far: objects and texts, by the name of their file."""

    at: datetime
    files: dict[str, Any] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)

    async def add(self, name: str, what: str, reading: Awaitable[Any]) -> None:
        """Read a part and keep it as a file. What cannot be had is noted."""
        console.print(f"reading {what}", style="dim", soft_wrap=True)
        try:
            found = await reading
        except MISSES as error:
            self.miss(what, error.message if isinstance(error, KubeError) else str(error) or type(error).__name__)
            return
        if found:
            self.files[name] = found

    def miss(self, what: str, why: str) -> None:
        """Note what is not in the bundle."""
        self.missed.append(f"{what}: {why}")

    def pack(self, folder: str, what: str) -> tuple[bytes, int]:
        """Make the archive, and count the values that were taken out."""
        redactor, room = Redactor(), LARGEST
        for content in self.files.values():
            redactor.learn(content)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, content in self.files.items():
                text = _written(name, redactor.clean(content))
                if len(text) > room:
                    self.miss(name, f"the bundle would be larger than {LARGEST >> 20} MiB")
                    continue
                room -= len(text)
                self._write(archive, f"{folder}/{name}", text)
            missed = redactor.text(_lines(self.missed or ["nothing"]))
            taken = [f"{count} times {kind}" for kind, count in redactor.counts.most_common() if count]
            about = ABOUT.format(at=self.at, what=what, taken=_lines(taken or ["nothing was found"]), missed=missed)
            self._write(archive, f"{folder}/README.txt", about.encode())
        return packed.getvalue(), redactor.counts.total()

    def _write(self, archive: tarfile.TarFile, name: str, content: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime, entry.mode = len(content), int(self.at.timestamp()), 0o600
        archive.addfile(entry, io.BytesIO(content))


async def collect(cluster: Cluster, name: str | None, system: str, at: datetime) -> Bundle:
    """Read everything about a job, or about an installation, that may be read.

    Raises:
        Told: there is no such job.
    """
    job = await cluster.job(name) if name is not None else None
    bundle = Bundle(at)
    await bundle.add("versions.json", "versions", _versions(cluster))
    await bundle.add("doctor.json", "what outlast doctor says", _doctor(cluster, system, name))
    if job is not None:
        await _add_job(bundle, cluster, job)
    else:
        await _add_all_jobs(bundle, cluster)
    await _add_system(bundle, cluster, system)
    console.print("reading histories of workflows", style="dim")
    bundle.files |= {f"histories/{file}": found async for file, found in histories.read(job, bundle.miss)}
    return bundle


def save(bundle: Bundle, file: Path, what: str) -> str:
    """Write the archive, which nobody else may read, and say what is in it."""
    packed, taken = bundle.pack(file.name.removesuffix(".tgz").removesuffix(".tar.gz"), what)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(packed)
    told = f"{file}: {len(packed) / 2**20:.1f} MiB, {taken} values redacted"
    return f"{told}, {len(bundle.missed)} parts could not be had: its README.txt names them" if bundle.missed else told


async def _add_job(bundle: Bundle, cluster: Cluster, job: Json) -> None:
    """Read what belongs to a job."""
    namespace, name, status = cluster.namespace, job["metadata"]["name"], status_of(job)
    bundle.files["job.yaml"] = job
    mine = {"labelSelector": selector({names.LABEL_JOB: status.job_id})} if status.job_id else None
    checkpoints = f"{names.CHECKPOINT_GROUP}/{names.CHECKPOINT_VERSION}"
    for version_, plural in (("batch/v1", "jobs"), ("v1", "pods"), (checkpoints, names.CHECKPOINT_PLURAL)):
        if mine is not None:
            what = f"{plural} of {name}"
            await bundle.add(f"{plural}.yaml", what, _some(cluster, version_, plural, namespace, **mine))
    await bundle.add("events.yaml", f"Events of {namespace}", _some(cluster, EVENTS, "events", namespace))
    vm = _one(cluster, names.API_VERSION, names.VM_PLURAL, namespace, vm_name_in(job["spec"]))
    await bundle.add("vm.yaml", "its SpotInstanceVM", vm)
    for node in sorted(filter(names.is_segment, machines_of(status))):
        await bundle.add(f"nodes/{node}.yaml", f"Node {node}", _one(cluster, "v1", "nodes", None, node))


async def _add_all_jobs(bundle: Bundle, cluster: Cluster) -> None:
    """Read the jobs of all namespaces, and what was bought for them."""
    for plural in (names.JOB_PLURAL, names.VM_PLURAL):
        await bundle.add(f"{plural}.yaml", f"all {plural}", _some(cluster, names.API_VERSION, plural))
    bought = selector({names.LABEL_MANAGED_BY: names.MANAGED_BY})
    await bundle.add("nodes.yaml", "Nodes that were bought", _some(cluster, "v1", "nodes", labelSelector=bought))


async def _add_system(bundle: Bundle, cluster: Cluster, system: str) -> None:
    """Read what Outlast itself says: its objects, Events, settings and logs."""
    for version_, plural in (
        ("apps/v1", "deployments"), ("apps/v1", "daemonsets"), ("batch/v1", "jobs"), ("v1", "pods"),
        (EVENTS, "events"), ("coordination.k8s.io/v1", "leases"),
    ):  # fmt: skip
        await bundle.add(f"system/{plural}.yaml", f"{plural} of {system}", _some(cluster, version_, plural, system))
    settings = _one(cluster, "v1", "configmaps", system, "outlast-settings")
    await bundle.add("system/settings.yaml", "Outlast's settings", settings)
    for pod in bundle.files.get("system/pods.yaml", ()):
        name, found = pod["metadata"]["name"], pod.get("status") or {}
        for container in found.get("containerStatuses") or []:
            said = f"system/logs/{name}-{container['name']}"
            await bundle.add(f"{said}.log", f"the log of {name}", _log(cluster, system, name, container["name"]))
            if container.get("restartCount"):
                before = _log(cluster, system, name, container["name"], previous=True)
                await bundle.add(f"{said}-previous.log", f"the log of {name} before its restart", before)


async def _versions(cluster: Cluster) -> Json:
    return {"outlast": version("outlast"), "kubernetes": await cluster.kube.get("/version")}


async def _doctor(cluster: Cluster, system: str, job: str | None) -> list[Json]:
    return [finding.model_dump() for finding in await doctor.look(cluster, system, job)]


async def _some(cluster: Cluster, version_: str, plural: str, namespace: str | None = None, **query: Any) -> list[Json]:
    return await cluster.kube.some(path(version_, plural, namespace), MOST_OBJECTS, **query)


async def _one(cluster: Cluster, version_: str, plural: str, namespace: str | None, name: str) -> Json | None:
    return await cluster.kube.find(path(version_, plural, namespace, name))


async def _log(cluster: Cluster, namespace: str, pod: str, container: str, **query: Any) -> str:
    """Read the end of a container's log."""
    where = path("v1", "pods", namespace, pod, "log")
    pieces: deque[bytes] = deque()
    size = 0
    reading = cluster.kube.stream(where, lasts=LOG_SECONDS, container=container, tailLines=LOG_LINES, **query)
    async with aclosing(reading) as found:
        async for piece in found:
            pieces.append(piece)
            size += len(piece)
            while size - len(pieces[0]) > LOG_BYTES:
                size -= len(pieces.popleft())
    return b"".join(pieces).decode(errors="replace")


def _written(name: str, content: Any) -> bytes:
    """Write what is in a file in the format that its name says."""
    if isinstance(content, str):
        return content.encode()
    if name.endswith(".yaml"):
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()
    return json.dumps(content, indent=1, ensure_ascii=False).encode()


def _lines(found: Iterable[str]) -> str:
    return "\n".join(f"  {line}" for line in found)
