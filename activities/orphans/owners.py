"""Owners: the SpotInstanceJobs that exist in the cluster, and the workflows that are open."""

from datetime import UTC, datetime, timedelta

from temporalio.client import Client

from api import names
from api.object_conditions import is_true
from clients.kube import Json, Kube, path
from clients.temporal import latest_run

RPC_SECONDS = timedelta(seconds=5)
_FINISHED = {"Completed", "Failed"}  # conditions of a SpotInstanceJob


class Owners:
    """The owners as one sweep sees them.

    Args:
        temporal: the service that runs the workflows.
        cluster_id: the id of this cluster.
        jobs: all SpotInstanceJobs of the cluster.
    """

    def __init__(self, temporal: Client, cluster_id: str, jobs: list[Json]) -> None:
        self._temporal = temporal
        self._cluster_id = cluster_id
        self._asked: dict[str, str | None] = {}
        self.jobs = {names.job_id(cluster_id, job["metadata"]["uid"]): job for job in jobs}

    async def has_no_machine(self, key: str) -> bool:
        """True if nobody looks after the VM ``key``: its workflow is not open, and this Temporal knows its job.

        A job that exists and has no open workflow here will get one from the bridge, or belongs to a Temporal service
        that this worker should be using. It is left alone; the next sweep sees more.
        """
        if await self._open(names.vm_workflow_id(key)) is not None:
            return False
        job = self.jobs.get(names.job_id_in(key))
        if job is None or is_finished(job):
            return True
        return (
            await self._open(names.job_workflow_id(job["metadata"]["namespace"], job["metadata"]["name"])) is not None
        )

    async def is_gone(self, job_id: str, workflow_id: str) -> bool:
        """True if the job is not in the cluster and ``workflow_id`` is not open for it."""
        return job_id not in self.jobs and await self.is_over(job_id, workflow_id)

    async def is_over(self, job_id: str, workflow_id: str) -> bool:
        """True if the job is not in the cluster or has ended, and ``workflow_id`` is not open for it."""
        job = self.jobs.get(job_id)
        if job is not None and not is_finished(job):
            return False
        uid = await self._open(workflow_id)
        # A workflow that does not say for whom it was started may belong to this job.
        return uid is None or (bool(uid) and names.job_id(self._cluster_id, uid) != job_id)

    async def _open(self, workflow_id: str) -> str | None:
        """Read the UID for which the open workflow was started; empty if it does not say, None if none is open."""
        if workflow_id not in self._asked:
            found = await latest_run(self._temporal, workflow_id, RPC_SECONDS)
            alive = found is not None and found.close_time is None
            self._asked[workflow_id] = str((await found.memo()).get("uid", "")) if found and alive else None
        return self._asked[workflow_id]


async def owners(temporal: Client, kube: Kube, cluster_id: str) -> Owners:
    """Read the jobs that exist. An object younger than the grace period may have an owner that is not listed here."""
    found = kube.each(path(names.API_VERSION, names.JOB_PLURAL))
    return Owners(temporal, cluster_id, [_without_bulk(job) async for job in found])


def _without_bulk(job: Json) -> Json:
    """Keep what a sweep reads of a job. Of thousands of jobs, templates and statuses would fill the memory."""
    metadata = {key: job["metadata"][key] for key in ("namespace", "name", "uid")}
    conditions = (job.get("status") or {}).get("conditions") or []
    return {
        "metadata": metadata,
        "spec": {**job["spec"], "jobTemplate": {}},
        "status": {"conditions": conditions},
    }


def is_finished(job: Json) -> bool:
    """True if the training is over, well or not."""
    return is_true(job, *_FINISHED)


def is_old(at: datetime | str | None, grace: float) -> bool:
    """True if it is older than ``grace`` seconds; what has no age counts as young."""
    if at is None:
        return False
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return moment < datetime.now(UTC) - timedelta(seconds=grace)
