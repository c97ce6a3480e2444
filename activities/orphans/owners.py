"""Who owns what: the SpotInstanceJobs that live in the cluster, and the workflows that are open."""

from datetime import UTC, datetime, timedelta

from temporalio.client import Client

from api import names
from clients.kube import Json, Kube, path
from clients.temporal import latest_run

RPC_SECONDS = timedelta(seconds=5)
_FINISHED = {"Completed", "Failed"}  # conditions of a SpotInstanceJob


class Owners:
    """One look at the owners, for one sweep.

    Args:
        temporal: the service that runs the workflows.
        cluster_id: of this cluster.
        jobs: all its SpotInstanceJobs.
    """

    def __init__(self, temporal: Client, cluster_id: str, jobs: list[Json]) -> None:
        self._temporal = temporal
        self._cluster_id = cluster_id
        self._asked: dict[str, str | None] = {}
        self.jobs = {names.job_id(cluster_id, job["metadata"]["uid"]): job for job in jobs}

    async def has_no_machine(self, key: str) -> bool:
        """Nobody looks after the VM ``key``: its workflow is not open, and its job is one that this Temporal knows.

        A job that lives and has no open workflow here will get one from the bridge, or belongs to a Temporal service
        that this worker should be using: hands off, the next sweep sees more.
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
        """The job is not in the cluster, and ``workflow_id`` is not open for it."""
        return job_id not in self.jobs and await self.is_over(job_id, workflow_id)

    async def is_over(self, job_id: str, workflow_id: str) -> bool:
        """The job is not in the cluster or its training over, and ``workflow_id`` is not open for it."""
        job = self.jobs.get(job_id)
        if job is not None and not is_finished(job):
            return False
        uid = await self._open(workflow_id)
        # One that does not say for whom it was started may be this one's.
        return uid is None or (bool(uid) and names.job_id(self._cluster_id, uid) != job_id)

    async def _open(self, workflow_id: str) -> str | None:
        """The UID for which the open workflow was started (empty where it does not say), None where none is open."""
        if workflow_id not in self._asked:
            found = await latest_run(self._temporal, workflow_id, RPC_SECONDS)
            alive = found is not None and found.close_time is None
            self._asked[workflow_id] = str((await found.memo()).get("uid", "")) if found and alive else None
        return self._asked[workflow_id]


async def owners(temporal: Client, kube: Kube, cluster_id: str) -> Owners:
    """Read the jobs that live. What is listed later and younger than the grace period has an owner that is not here."""
    return Owners(temporal, cluster_id, await kube.list(path(names.API_VERSION, names.JOB_PLURAL)))


def is_finished(job: Json) -> bool:
    """The training is over, well or not."""
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(condition["type"] in _FINISHED and condition["status"] == "True" for condition in conditions)


def is_old(at: datetime | str | None, grace: float) -> bool:
    """Older than ``grace`` seconds; what has no age is young."""
    if at is None:
        return False
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return moment < datetime.now(UTC) - timedelta(seconds=grace)
