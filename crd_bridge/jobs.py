"""SpotInstanceJobs: one workflow for each object, started once in the object's life.

The bridge reads before it starts a workflow. USE_EXISTING alone would train a completed job again after every restart
of the bridge, because it knows only running workflows.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from api import names, reasons
from api.messages import JobStart, RequestChanged, Shutdown, SpecChanged
from api.object_conditions import is_over
from api.spot_instance_job import LONGEST_REQUEST, vm_name_in
from clients.changes import change
from clients.informer import Kind, Store
from clients.kube import Json, Kube, KubeError
from clients.watch import Resource
from crd_bridge.expiry import due_at, seconds_until
from crd_bridge.job_ids import JobIds, Known
from crd_bridge.queues import NotYet, Queues
from crd_bridge.temporal import Gateway

log = logging.getLogger(__name__)

LOOK_AGAIN = 60.0  # seconds between polls of a deletion under way
LONGEST_WAIT = 3600.0  # seconds until the next check of a job to be deleted later, because clocks are corrected


@dataclass(frozen=True)
class Job:
    """What the bridge needs of a SpotInstanceJob: it acts if this changes, and on nothing else."""

    namespace: str
    name: str
    uid: str
    generation: int
    vm: str
    deleting: bool
    has_finalizer: bool  # carries our finalizer
    over: bool
    request: str  # the request annotation as long as the status does not answer it
    due_at: datetime | None  # when ttlSecondsAfterFinished have passed since its end

    @property
    def key(self) -> str:
        """Give its key in the watch, which is also its workflow's id."""
        return names.job_workflow_id(self.namespace, self.name)

    @property
    def known(self) -> Known:
        """Say which job it is."""
        return Known(self.namespace, self.name, self.uid)


class Jobs:
    """All SpotInstanceJobs of the cluster.

    Args:
        kube: the cluster.
        gateway: Temporal.
        queues: the messages that wait.
        cluster_id: the UID from which job ids are made.
        listed: returns True once all jobs that exist are known. No job begins before that, because one that has its id
            may be on a later page of the list.
    """

    def __init__(
        self, kube: Kube, gateway: Gateway, queues: Queues, cluster_id: str, listed: Callable[[], bool] = lambda: True
    ) -> None:
        self._listed = listed
        self._kube = kube
        self._gateway = gateway
        self._queues = queues
        self._cluster_id = cluster_id
        self._ids = JobIds(kube, cluster_id)
        self._jobs = Store(BY_VM)
        self._observed: dict[str, int] = {}  # uid → generation that the workflow has read or was told
        self._ending: dict[str, str] = {}  # uid → run that was signalled to shut down

    def changed(self, key: str, item: Json | None, version: int) -> None:
        """Handle a change; without ``item`` the object is gone."""
        old = self._jobs.items.get(key)
        job = _job(item) if item is not None else None
        self._jobs.put(key, job)
        if old and (job is None or job.uid != old.uid):
            self._gone(old)
        if item is None or job is None:
            self._queues.drop(("job", key))
            return
        self._ids.add(job.known)
        observed = (item.get("status") or {}).get("observedGeneration") or 0
        self._observed[job.uid] = max(observed, self._observed.get(job.uid, 0))
        if job != old:
            self._queues.put(("job", key), partial(self._match, job))

    def _gone(self, job: Job) -> None:
        """Handle the end of the object: after its teardown, or because somebody removed our finalizer before."""
        self._observed.pop(job.uid, None)
        self._ids.remove(job.uid)
        if self._ending.pop(job.uid, None) is None:
            self._queues.put(("gone", job.uid), partial(self._tell_gone, job))

    def naming(self, namespace: str, vm: str) -> list[Job]:
        """List the jobs that buy by this SpotInstanceVM."""
        return list(self._jobs.of(_buyers(namespace, vm)).values())

    async def _match(self, job: Job) -> float | None:
        """Make Temporal match the object."""
        if job.deleting:
            # Without our finalizer nothing of it is left, or somebody removed it to say so.
            return await self._shut_down(job) if job.has_finalizer else None
        if job.over:
            return await self._expire(job)  # even if Temporal's retention has dropped the run
        run = await self._gateway.latest(job.key)
        if run and run.open and run.uid == job.uid:
            await self._tell(job)
            if job.request:
                await self._gateway.signal(job.key, "request_changed", RequestChanged(uid=job.uid))
            return None
        if run and run.open:
            raise NotYet(f"{job.key}: the workflow of an earlier object of this name is still at work")
        if run and run.uid == job.uid:
            return None  # it has ended; a finished training never starts again
        if (other := await self._taken_by(job)) is not None:
            return await self._refuse(job, other)
        if await self._add_finalizer(job):
            await self._gateway.start(self._start(job))
            self._observed[job.uid] = job.generation
            log.info("%s: workflow started", job.key)
        return None

    async def _taken_by(self, job: Job) -> Known | None:
        """Find the job that has this one's id and goes before it."""
        if not self._listed():
            raise NotYet(f"{job.key}: begins once all jobs are listed")
        return await self._ids.taken_by(job.known)

    async def _refuse(self, job: Job, other: Known) -> float:
        """Let a job not begin, and none of its teardown, which would be that of the other one with its id."""
        await self._ids.refuse(job.known, other)
        return LOOK_AGAIN  # it may begin once the other one is gone

    async def _expire(self, job: Job) -> float | None:
        """Delete a finished job that is due, as the TTL controller does with batch Jobs."""
        if job.due_at is None:
            return None
        if (left := seconds_until(job.due_at)) > 0:
            return min(left, LONGEST_WAIT)
        if (
            job.has_finalizer
        ):  # its workflow still has something to tear down, or was terminated: then the deletion starts one
            run = await self._gateway.latest(job.key)
            if run and run.open and run.uid == job.uid:
                return LOOK_AGAIN
        await self._delete(job)
        return LOOK_AGAIN

    async def _delete(self, job: Job) -> None:
        """Delete the version that was found due: an edit meanwhile, for example of the TTL, takes precedence."""
        where = job.known.path
        found = await self._kube.find(where)
        if found is None or found["metadata"]["uid"] != job.uid or _job(found).due_at != job.due_at:
            return
        try:
            await self._kube.delete(where, uid=job.uid, version=found["metadata"]["resourceVersion"])
        except KubeError as error:
            if error.status == 409:
                raise NotYet(f"{job.key}: changed meanwhile") from error
            raise
        log.info("%s: deleted, ttlSecondsAfterFinished have passed since its end", job.key)

    async def _shut_down(self, job: Job) -> float:
        run = await self._gateway.latest(job.key)
        if run and run.open and run.uid != job.uid:
            raise NotYet(f"{job.key}: the workflow of an earlier object of this name is still at work")
        begun = run is not None and run.uid == job.uid  # else somebody put our finalizer on it by hand
        if not begun and (other := await self._taken_by(job)) is not None:
            return await self._refuse(job, other)
        if not (run and run.open and self._ending.get(job.uid) == run.run_id):
            await self._gateway.shut_down(self._start(job))
            log.info("%s: told to shut down", job.key)
            told = await self._gateway.latest(job.key)
            self._ending[job.uid] = told.run_id if told else ""
        return LOOK_AGAIN  # somebody may terminate the teardown, too

    async def _tell(self, job: Job) -> None:
        if self._observed.get(job.uid, 0) >= job.generation:
            return
        message = SpecChanged(uid=job.uid, generation=job.generation)
        await self._gateway.signal(job.key, "spec_changed", message)
        self._observed[job.uid] = job.generation

    async def _tell_gone(self, job: Job) -> None:
        run = await self._gateway.latest(job.key)
        if run and run.open and run.uid == job.uid:
            await self._gateway.signal(job.key, "shutdown", Shutdown(uid=job.uid, reason=reasons.GONE))

    async def _add_finalizer(self, job: Job) -> bool:
        """Add our finalizer, so that nothing is bought for an object that can disappear.

        False if it is gone, or has ended meanwhile because another bridge worked while this one was delayed.
        """

        def held(found: Json) -> Json | None:
            finalizers = found["metadata"].get("finalizers") or []
            if names.FINALIZER in finalizers or not _may_begin(found, job):
                return None
            return {"metadata": {"finalizers": [*finalizers, names.FINALIZER]}}

        try:
            found = await change(self._kube, job.known.path, held, "its workflow does not begin yet")
        except KubeError as error:
            if error.status != 422:
                raise
            # Stored before the CRD refused it, on a server that validates the whole object at each change.
            log.warning("%s: nothing begins before it is corrected: %s", job.key, error.message)
            return False
        return found is not None and _may_begin(found, job)

    def _start(self, job: Job) -> JobStart:
        return JobStart(
            namespace=job.namespace,
            name=job.name,
            uid=job.uid,
            cluster_id=self._cluster_id,
            job_id=self._ids.of(job.uid),
        )


def _may_begin(found: Json, job: Job) -> bool:
    """True if the object is still the one that is to begin, and neither being deleted nor over."""
    metadata = found["metadata"]
    return metadata["uid"] == job.uid and "deletionTimestamp" not in metadata and not _job(found).over


def _unanswered(item: Json) -> str:
    """Read the request annotation, unless the status answers it; empty if there is none."""
    value: str = (item["metadata"].get("annotations") or {}).get(names.ANNOTATION_REQUEST) or ""
    answered = ((item.get("status") or {}).get("request") or {}).get("value")
    return "" if answered == value[:LONGEST_REQUEST] else value


def _buyers(namespace: str, vm: str) -> str:
    return f"{namespace}/{vm}"


def _job(item: Json) -> Job:
    metadata = item["metadata"]
    return Job(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        vm=vm_name_in(item.get("spec") or {}),
        deleting="deletionTimestamp" in metadata,
        has_finalizer=names.FINALIZER in (metadata.get("finalizers") or []),
        over=is_over(item),
        request=_unanswered(item),
        due_at=due_at(item),
    )


BY_VM = Kind("jobs", Resource(names.API_VERSION, names.JOB_PLURAL), _job, lambda job: _buyers(job.namespace, job.vm))
"""Jobs, found by the SpotInstanceVM that they name."""
