"""Logs that outlive their pods: in the job's bucket, else in a ConfigMap beside the job, whose size is limited.

The bucket gets one object for each incarnation. It is always written as a whole and replaces the earlier one, so nobody
has to read what others wrote. A bucket that cannot be written costs no log and delays nothing: the end of the log goes
to the ConfigMap, and at the job's end from there to the bucket.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from temporalio import activity

from activities.cloud_errors import CloudError
from activities.kubernetes import ownership
from activities.replicas import saved_log
from activities.replicas.pods import (
    UNREADABLE,
    containers_of,
    member_of,
    pods_of,
    read_log,
    read_logs,
    stream_log,
)
from activities.signatures import (
    SAVE_LOGS,
    SHORTEN_LOGS,
    ReplicaRef,
    SavedLog,
    SaveLogs,
    ShortenedLogs,
    ShortenLogs,
)
from activities.storage import Buckets, Storage, named, whole
from api import errors, names
from api.spot_instance_job import CheckpointStorage
from api.storage import log_key, logs_prefix, moved_log_key, url
from clients.changes import write_current, write_or_create
from clients.kube import Json, Kube, of_version, path

SAVED_LINES = 10_000
"""Lines of a log that go to a ConfigMap, or to the bucket as the end of a log longer than ``WHOLE``."""
WHOLE = 64 * 2**20
"""Bytes of an incarnation's log that go to the bucket from its beginning; of a longer log the end goes, too."""
END = 256 * 1024
MEMBER_LINES = 1000
"""Lines of the log of a gang's member that are saved, except for those of the first. Ranks mostly say the same."""
MEMBER_END = 4 * 1024
"""Bytes of these that go to a ConfigMap, which has room for 256 KiB of all members."""
READ_SECONDS = 8.0
"""Time after which a read ends; what was read by then is kept."""
BUCKET_SECONDS = 12.0
"""Time after which the ConfigMap gets the log instead, because a recovery waits for this."""
READS = 32
"""Logs of further members of gangs that are read at once in this worker: a gang may have hundreds of them."""
UPLOADS = 16
"""Uploads at once in this worker: each has some parts of a log in memory."""


class CutShort(Exception):
    """The node stopped answering in the middle of the log."""


class LogActivities:
    """Saves logs.

    Args:
        kube: the cluster, in which it may read pods' logs and write ConfigMaps of any namespace.
        buckets: the buckets for the logs of jobs with a ``checkpointStorage``.
    """

    def __init__(self, kube: Kube, buckets: Buckets) -> None:
        self._kube = kube
        self._buckets = buckets
        self._uploads = asyncio.Semaphore(UPLOADS)
        self._reads = asyncio.Semaphore(READS)

    # --- while the job lives

    @activity.defn(name=SAVE_LOGS.name)
    async def save_logs(self, request: SaveLogs) -> SavedLog:
        """Save the log of an incarnation. If it is no longer readable, what was saved before stays.

        Of a gang the first member's log is saved, and the ends of the others'.
        """
        pods = await pods_of(self._kube, request.ref)
        if request.storage is None:
            return await self._to_config_map(request.ref, pods)
        try:
            async with asyncio.timeout(BUCKET_SECONDS):
                return await self._to_bucket(request, request.storage, pods)
        except CloudError as error:
            reason, problem = error.type, str(error)
        except TimeoutError:
            reason, problem = errors.TRANSIENT, f"{named(request.storage)} did not take a log in {BUCKET_SECONDS:.0f} s"
        kept = await self._to_config_map(request.ref, pods)
        return kept.model_copy(update={"reason": reason, "problem": problem})

    async def _to_bucket(self, request: SaveLogs, storage: CheckpointStorage, pods: list[Json]) -> SavedLog:
        ref = request.ref
        location = url(storage, logs_prefix(storage, ref.job.job_id, ref.replica))
        first, others = _by_member(pods, ref)
        ends = (self._end_to_bucket(request, storage, member, pod) for member, pod in others.items())
        added = await asyncio.gather(self._first_to_bucket(request, storage, first), *ends)
        return SavedLog(location=location, added_bytes=sum(added))

    async def _first_to_bucket(self, request: SaveLogs, storage: CheckpointStorage, pods: list[Json]) -> int:
        """Save the whole log of a replica's only or first member, and return how many bytes were added."""
        ref = request.ref
        prefix = logs_prefix(storage, ref.job.job_id, ref.replica)
        key = log_key(storage, ref.job.job_id, ref.replica, ref.incarnation)
        async with aclosing(_whole(self._kube, pods)) as pieces:
            first = await anext(pieces, b"")
            if not first:
                return 0
            bucket = await self._buckets.open(storage, request.cloud, ref.job.namespace)
            upload = _Upload(_header(ref) + first, pieces, bucket, prefix, key)
            async with self._uploads:
                try:
                    await bucket.put(key, upload.parts())
                except CutShort:  # the log that was saved before is longer
                    return 0
        return upload.sent

    async def _end_to_bucket(self, request: SaveLogs, storage: CheckpointStorage, member: int, pod: Json) -> int:
        """Save the end of the log of a further member, and return how many bytes were added."""
        ref = request.ref
        if not (said := await self._end_of(pod, END)):
            return 0
        bucket = await self._buckets.open(storage, request.cloud, ref.job.namespace)
        key = log_key(storage, ref.job.job_id, ref.replica, ref.incarnation, member)
        content = _header(ref) + f"--- member {member}: the end of its log ---\n{said}".encode()
        async with self._uploads:
            await bucket.put(key, whole(content))
        return len(content)

    async def _end_of(self, pod: Json, room: int) -> str:
        """Read the end of a member's log, as much as fits into ``room`` bytes for all of its containers."""
        async with self._reads:
            logs = await read_logs(self._kube, pod, MEMBER_LINES)
        texts = [f"{_container(name)}{said}" if len(logs) > 1 else said for name, said in logs.items() if said]
        return "".join(_ended(saved_log.last_bytes(text, room // len(logs))) for text in texts)

    async def _to_config_map(self, ref: ReplicaRef, pods: list[Json]) -> SavedLog:
        """Save the end of the log, joined with those of earlier incarnations."""
        name = names.log_name(ref.job.name, ref.job.job_id, ref.replica)
        location = f"configmap/{ref.job.namespace}/{name}"
        first, others = _by_member(pods, ref)
        ends = await asyncio.gather(*(self._end_of(pod, MEMBER_END) for pod in others.values()))
        text = "".join(f"--- member {member} ---\n{said}" for member, said in zip(others, ends, strict=True) if said)
        whole_log = ""
        for pod in first:
            logs = await read_logs(self._kube, pod, SAVED_LINES)
            for container, said in logs.items():
                whole_log += f"{_container(container)}{said}" if said and len(logs) > 1 else said
        if text and whole_log:
            text += "--- member 0 ---\n"  # behind the others: of a log that is too long the end is kept
        text += whole_log
        if not text:
            return SavedLog(location=location, added_bytes=0)
        await self._keep(ref, name, text, instead=bool(whole_log))
        return SavedLog(location=location, added_bytes=len(text.encode()))

    async def _keep(self, ref: ReplicaRef, name: str, text: str, *, instead: bool) -> None:
        """Write the log, joined with what the ConfigMap contains.

        What it has of this incarnation is only replaced with ``instead``, by the log of the first member.
        """
        job, where = ref.job, path("v1", "configmaps", ref.job.namespace, name)

        async def write(found: Json | None) -> None:
            if not instead and saved_log.header(job.job_id, ref.replica, str(ref.incarnation)) in _log_in(found):
                return
            data = {"log": saved_log.join(_log_in(found), job.job_id, ref.replica, ref.incarnation, text)}
            if found is not None:
                await self._kube.patch(where, of_version(found, {"data": data}))
                return
            metadata = {
                "name": name,
                "namespace": job.namespace,
                "labels": ownership.labels(job.job_id, ref.replica),
                "ownerReferences": [ownership.owner(job)],
            }
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            await self._kube.create(path("v1", "configmaps", job.namespace), body)

        await write_or_create(self._kube, where, write, "the log could not be saved")

    # --- at its end

    @activity.defn(name=SHORTEN_LOGS.name)
    async def shorten_logs(self, request: ShortenLogs) -> ShortenedLogs:
        """Move logs from ConfigMaps to the bucket, if there is one, and leave only their ends in the ConfigMaps.

        They are shortened even if the bucket cannot be written: finished jobs must not fill etcd.
        """
        outcomes = await asyncio.gather(*(self._shorten(request, replica) for replica in request.replicas))
        found = [outcome for outcome in outcomes if outcome is not None]
        failed = [outcome for outcome in found if outcome.problem]
        return failed[0] if failed else ShortenedLogs(moved=sum(outcome.moved for outcome in found))

    async def _shorten(self, request: ShortenLogs, replica: int) -> ShortenedLogs | None:
        """Shorten one replica's log; None if it has no ConfigMap, or nothing is left to do."""
        job = request.job
        where = path("v1", "configmaps", job.namespace, names.log_name(job.name, job.job_id, replica))
        outcome: ShortenedLogs | None = None

        async def write(found: Json) -> None:
            nonlocal outcome
            text = _log_in(found)
            if not ownership.belongs_to(found, job.job_id) or saved_log.is_shortened(text):
                return
            outcome = outcome or await self._move(request, replica, text)
            rest = f": the whole is {outcome.location}" if outcome.location else ""
            await self._kube.patch(where, of_version(found, {"data": {"log": saved_log.shorten(text, rest)}}))

        await write_current(self._kube, where, write, "the log could not be shortened")
        return outcome

    async def _move(self, request: ShortenLogs, replica: int, text: str) -> ShortenedLogs:
        storage = request.storage
        if storage is None:
            return ShortenedLogs()
        key = moved_log_key(storage, request.job.job_id, replica)
        try:
            async with asyncio.timeout(BUCKET_SECONDS):
                bucket = await self._buckets.open(storage, request.cloud, request.job.namespace)
                await bucket.put(key, whole(text.encode()))
        except CloudError as error:
            return ShortenedLogs(reason=error.type, problem=str(error))
        except TimeoutError:
            return ShortenedLogs(reason=errors.TRANSIENT, problem=f"{named(storage)} did not answer in time")
        return ShortenedLogs(moved=1, location=url(storage, key))


class _Upload:
    """A log that is being written to the bucket."""

    def __init__(self, first: bytes, pieces: AsyncIterator[bytes], bucket: Storage, prefix: str, key: str) -> None:
        self.sent = 0
        self._first = first
        self._pieces = pieces
        self._bucket = bucket
        self._prefix = prefix
        self._key = key

    async def parts(self) -> AsyncIterator[bytes]:
        """Give the log in parts.

        Raises:
            CutShort: this log was cut short and a longer one exists, so nothing is written.
        """
        self.sent = len(self._first)
        yield self._first
        try:
            async for piece in self._pieces:
                self.sent += len(piece)
                yield piece
        except CutShort:
            known = {each.key: each.size for each in await self._bucket.list(self._prefix)}
            if known.get(self._key, 0) > self.sent:
                raise
            yield b"\n--- the node stopped answering here ---\n"


async def _whole(kube: Kube, pods: list[Json]) -> AsyncGenerator[bytes, None]:
    """Read the logs of all containers; of a log beyond its share of ``WHOLE``, the beginning and the end.

    Raises:
        CutShort: the rest of a log that was begun cannot be read.
    """
    deadline = asyncio.get_running_loop().time() + READ_SECONDS
    begun = False
    for pod in pods:
        containers = containers_of(pod)
        for container in containers:
            title = _container(container).encode() if len(containers) > 1 else b""
            left = WHOLE // len(containers)
            lasts = max(0.1, deadline - asyncio.get_running_loop().time())
            try:
                async with aclosing(stream_log(kube, pod, container, lasts=lasts)) as pieces:
                    async for piece in pieces:
                        yield title + piece[:left]
                        begun, title, left = True, b"", left - len(piece)
                        if left <= 0:
                            break
            except UNREADABLE as error:
                if begun:
                    raise CutShort from error
            if left <= 0:
                end = saved_log.last_bytes(await read_log(kube, pod, container, SAVED_LINES), END)
                yield f"\n--- the middle of this log is not kept; its end was: ---\n{end}".encode()


def _by_member(pods: list[Json], ref: ReplicaRef) -> tuple[list[Json], dict[int, Json]]:
    """Split the pods of an incarnation into those of its first member and the further members'."""
    members = [(member_of(pod, ref), pod) for pod in pods]
    return [pod for member, pod in members if not member], {member: pod for member, pod in members if member}


def _ended(text: str) -> str:
    return text if text.endswith("\n") or not text else f"{text}\n"


def _header(ref: ReplicaRef) -> bytes:
    return f"{saved_log.header(ref.job.job_id, ref.replica, str(ref.incarnation))}\n".encode()


def _container(name: str) -> str:
    return f"--- container {name} ---\n"


def _log_in(config_map: Json | None) -> str:
    return str(((config_map or {}).get("data") or {}).get("log", ""))
