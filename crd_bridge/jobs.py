"""SpotInstanceJobs: one workflow for each object, started once in the object's life.

The bridge reads before it starts. USE_EXISTING alone would train a completed job anew after every restart of the
bridge, because it knows of running workflows only.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from api import names
from api.messages import JobStart, Shutdown, SpecChanged
from api.spot_instance_job import vm_name_in
from clients.kube import Json, Kube, KubeError, path
from crd_bridge.expiry import due_at, is_end, seconds_until
from crd_bridge.queues import NotYet, Queues
from crd_bridge.temporal import Gateway

log = logging.getLogger(__name__)

LOOK_AGAIN = 60.0  # seconds between looks at a deletion under way
LONGEST_WAIT = 3600.0  # seconds until the next look at one that is to be deleted later: clocks are corrected


@dataclass(frozen=True)
class Job:
    """What the bridge needs of a SpotInstanceJob: it acts where this changes, and on nothing else."""

    namespace: str
    name: str
    uid: str
    generation: int
    vm: str
    deleting: bool
    held: bool  # carries our finalizer
    over: bool
    due_at: datetime | None  # when ttlSecondsAfterFinished have passed since its end

    @property
    def key(self) -> str:
        """Its key in the watch, and its workflow's id."""
        return names.job_workflow_id(self.namespace, self.name)


class Jobs:
    """All SpotInstanceJobs of the cluster."""

    def __init__(self, kube: Kube, gateway: Gateway, queues: Queues, cluster_id: str) -> None:
        self._kube = kube
        self._gateway = gateway
        self._queues = queues
        self._cluster_id = cluster_id
        self._jobs: dict[str, Job] = {}
        self._observed: dict[str, int] = {}  # uid → generation that the workflow has read or was told of
        self._ending: dict[str, str] = {}  # uid → run that was told to shut down

    def changed(self, key: str, item: Json | None, version: int) -> None:
        """An object changed or, without ``item``, is gone."""
        old = self._jobs.pop(key, None)
        if old and (item is None or item["metadata"]["uid"] != old.uid):
            self._gone(old)
        if item is None:
            self._queues.drop(("job", key))
            return
        job = self._jobs[key] = _job(item)
        observed = (item.get("status") or {}).get("observedGeneration") or 0
        self._observed[job.uid] = max(observed, self._observed.get(job.uid, 0))
        if job != old:
            self._queues.put(("job", key), partial(self._match, job))

    def _gone(self, job: Job) -> None:
        """The object is gone: after its teardown, or because somebody took our finalizer off before."""
        self._observed.pop(job.uid, None)
        if self._ending.pop(job.uid, None) is None:
            self._queues.put(("gone", job.uid), partial(self._tell_gone, job))

    def naming(self, namespace: str, vm: str) -> list[Job]:
        """Jobs that buy by this SpotInstanceVM."""
        return [job for job in self._jobs.values() if (job.namespace, job.vm) == (namespace, vm)]

    async def _match(self, job: Job) -> float | None:
        """Make Temporal match the object."""
        if job.deleting:
            # Without our finalizer nothing of it is left, or somebody took it off to say so.
            return await self._shut_down(job) if job.held else None
        if job.over:
            return await self._expire(job)  # also where Temporal's retention has forgotten the run
        run = await self._gateway.latest(job.key)
        if run and run.open and run.uid == job.uid:
            await self._tell(job)
            return None
        if run and run.open:
            raise NotYet(f"{job.key}: the workflow of an earlier object of this name is still at work")
        if run and run.uid == job.uid:
            return None  # its life is over; a finished training never starts again
        if await self._hold(job):
            await self._gateway.start(self._start(job))
            self._observed[job.uid] = job.generation
            log.info("%s: workflow started", job.key)
        return None

    async def _expire(self, job: Job) -> float | None:
        """Delete a finished job that is due, as the TTL controller does with batch Jobs."""
        if job.due_at is None:
            return None
        if (left := seconds_until(job.due_at)) > 0:
            return min(left, LONGEST_WAIT)
        if job.held:  # its workflow has still something to tear down, or was terminated: then the deletion begins one
            run = await self._gateway.latest(job.key)
            if run and run.open and run.uid == job.uid:
                return LOOK_AGAIN
        await self._delete(job)
        return LOOK_AGAIN

    async def _delete(self, job: Job) -> None:
        """Delete the version that was found due: an edit meanwhile, of the TTL for example, comes first."""
        where = _path(job)
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
            await self._gateway.signal(job.key, "shutdown", Shutdown(uid=job.uid, reason="Gone"))

    async def _hold(self, job: Job) -> bool:
        """Put our finalizer on, so that nothing is bought for an object that can vanish; False where it has gone."""
        where = _path(job)
        try:
            metadata = (await self._kube.get(where))["metadata"]
            if metadata["uid"] != job.uid or "deletionTimestamp" in metadata:
                return False
            finalizers = metadata.get("finalizers") or []
            if names.FINALIZER not in finalizers:
                body = {"finalizers": [*finalizers, names.FINALIZER], "resourceVersion": metadata["resourceVersion"]}
                await self._kube.patch(where, {"metadata": body})
        except KubeError as error:
            if error.status == 404:
                return False
            if error.status == 409:
                raise NotYet(f"{job.key}: changed meanwhile") from error
            if error.status == 422:
                # Stored before the CRD refused it, on a server that judges all of an object at each change.
                log.warning("%s: nothing begins before it is corrected: %s", job.key, error.message)
                return False
            raise
        return True

    def _start(self, job: Job) -> JobStart:
        return JobStart(
            namespace=job.namespace,
            name=job.name,
            uid=job.uid,
            cluster_id=self._cluster_id,
            job_id=names.job_id(self._cluster_id, job.uid),
        )


def _path(job: Job) -> str:
    return path(names.API_VERSION, names.JOB_PLURAL, job.namespace, job.name)


def _job(item: Json) -> Job:
    metadata = item["metadata"]
    conditions = (item.get("status") or {}).get("conditions") or []
    return Job(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        vm=vm_name_in(item.get("spec") or {}),
        deleting="deletionTimestamp" in metadata,
        held=names.FINALIZER in (metadata.get("finalizers") or []),
        over=any(is_end(each) for each in conditions),
        due_at=due_at(item),
    )
