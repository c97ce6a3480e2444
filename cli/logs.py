"""``outlast logs``: a replica's log, joined over its incarnations and machines, also after they are gone.

What is kept comes first: from the bucket of ``checkpointStorage`` with your own rights there, or from the ConfigMap
beside the job. Then comes the log of the pod that is there.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import aiohttp
from obstore.exceptions import BaseError
from obstore.store import from_url

from api import names
from api.object_conditions import is_over
from api.spot_instance_job import CheckpointStorage, JobStatusEntry, SpotInstanceJobSpec
from cli.session import ABSENT, Cluster, Told, errors, spec_of, status_of
from clients.kube import Json, KubeError, path, selector

FOLLOWS = 3600.0
"""Seconds for which one request for a pod's log lasts."""
AGAIN = 2.0
"""Seconds between two looks for the next pod."""
_WHOLE = re.compile(r"i([0-9]+)[.]log")  # of a whole log; those of other members are named i…-m….log
_SIGNS = ("client_email", "private_key", "private_key_id")
"""What a service account's key signs with."""
_HEADER = re.compile(r"^=== [0-9a-f]{8} replica [0-9]+ incarnation ([0-9]+) ===$", re.MULTILINE)


async def lines(
    cluster: Cluster, name: str, replica: int | None, *, follow: bool, tail: int | None
) -> AsyncIterator[bytes]:
    """Yield the log in pieces, oldest first; with ``follow`` over replacements of the pod until the job has ended.

    Raises:
        Told: there is no such replica.
    """
    job = await cluster.job(name)
    entry = _entry(job, replica)
    shown: set[str] = set()  # UIDs of pods
    kept: set[str] = set()  # numbers of incarnations
    if tail is None:
        async for piece in _kept(cluster, job, entry, kept):
            yield piece
    while True:
        for pod in await _pods(cluster, job, entry):
            uid = pod["metadata"]["uid"]
            incarnation = (pod["metadata"].get("labels") or {}).get(names.LABEL_INCARNATION)
            if uid in shown or incarnation in kept or pod["status"].get("phase") == "Pending":
                continue
            shown.add(uid)
            async for piece in _of_pod(cluster, pod, spec_of(job), follow=follow, tail=tail):
                yield piece
        if not follow or is_over(job):
            return
        await asyncio.sleep(AGAIN)
        job = await cluster.job(name)


def _entry(job: Json, replica: int | None) -> JobStatusEntry:
    """Find the replica that is meant: by default the furthest of those that run, else the first."""
    entries = [entry for entry in status_of(job).job_statuses if entry.replica is not None]
    if not entries:
        raise Told(
            f"{job['metadata']['name']} has no replica yet: {status_of(job).state or 'nobody has read it'}", ABSENT
        )
    if replica is None:
        return max(entries, key=lambda entry: (entry.phase == "Running", entry.progress or 0, -(entry.replica or 0)))
    for entry in entries:
        if entry.replica == replica:
            return entry
    raise Told(f"there is no replica {replica}: it has {', '.join(str(entry.replica) for entry in entries)}", ABSENT)


async def _pods(cluster: Cluster, job: Json, entry: JobStatusEntry) -> list[Json]:
    labels = {names.LABEL_JOB: status_of(job).job_id, names.LABEL_REPLICA: str(entry.replica)}
    found = await cluster.kube.list(path("v1", "pods", cluster.namespace), labelSelector=selector(labels))
    firsts = [pod for pod in found if _member(pod) == 0]
    return sorted(firsts, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))


def _member(pod: Json) -> int:
    """Return which member of a gang it is; the log of a gang is that of its first member."""
    labels: dict[str, Any] = pod["metadata"].get("labels") or {}
    return int(labels.get("batch.kubernetes.io/job-completion-index", 0))


async def _of_pod(
    cluster: Cluster, pod: Json, spec: SpotInstanceJobSpec, *, follow: bool, tail: int | None
) -> AsyncIterator[bytes]:
    containers = [each["name"] for each in pod["spec"]["containers"]]
    main = spec.main_container if spec.main_container in containers else containers[0]
    query: dict[str, Any] = {"container": main, **({"follow": True} if follow else {})}
    if tail is not None:
        query["tailLines"] = tail
    where = path("v1", "pods", cluster.namespace, pod["metadata"]["name"], "log")
    try:
        async with aclosing(cluster.kube.stream(where, lasts=FOLLOWS, **query)) as pieces:
            async for piece in pieces:
                yield piece
    except (KubeError, aiohttp.ClientError, TimeoutError) as error:  # its machine is gone; what was saved is kept
        errors.print(f"the log of {pod['metadata']['name']} ends here: {error}", style="yellow")


async def _kept(cluster: Cluster, job: Json, entry: JobStatusEntry, kept: set[str]) -> AsyncIterator[bytes]:
    """Yield what was saved of ended incarnations, and note their numbers."""
    if not entry.log:
        return
    if entry.log.startswith("configmap/"):
        _, namespace, name = entry.log.split("/", 2)
        found = await cluster.kube.find(path("v1", "configmaps", namespace, name))
        for text in ((found or {}).get("data") or {}).values():
            kept |= set(_HEADER.findall(text))
            yield text.encode()
        return
    try:
        storage = spec_of(job).checkpoint_config.checkpoint_storage
        async for piece in _in_bucket(entry.log, _access(storage), kept):
            yield piece
    except (BaseError, OSError) as error:
        why = f"{entry.log} cannot be read with your own rights ({_first_line(error)})"
        errors.print(f"{why}: {_by_hand(entry.log)}", style="yellow")


def _access(storage: CheckpointStorage | None) -> dict[str, Any]:
    """Say how to reach a store at an endpoint of its own: without a key if the job has none, too."""
    if storage is None or storage.endpoint is None:
        return {}
    options: dict[str, Any] = {"client_options": {"allow_http": storage.endpoint.startswith("http://")}}
    keyless = storage.credentials_secret_ref is None
    if storage.type != "gcs":
        return options | {"endpoint": storage.endpoint, "skip_signature": keyless}
    if not keyless:
        return options | {"base_url": storage.endpoint}
    # As the worker does: if only signatures are skipped, the client still asks for a token.
    nobody = {"gcs_base_url": storage.endpoint, "disable_oauth": True}
    return options | {"service_account_key": json.dumps(nobody | dict.fromkeys(_SIGNS, ""))}


async def _in_bucket(where: str, access: dict[str, Any], kept: set[str]) -> AsyncIterator[bytes]:
    """Read all whole logs below a URL in the order of their incarnations, without the ends of other members' logs."""
    store = from_url(where, **access)
    async for page in store.list():
        for found in sorted(page, key=lambda each: each["path"]):
            whole = _WHOLE.fullmatch(found["path"].rpartition("/")[2])
            if whole is None:
                continue
            kept.add(str(int(whole[1])))
            got = await store.get_async(found["path"])
            async for piece in got.stream():
                yield bytes(piece)


def _by_hand(where: str) -> str:
    tool = {"gs": "gcloud storage cat", "s3": "aws s3 cp --recursive"}.get(where.partition(":")[0], "read it from")
    return f"{tool} '{where}/*'"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
