"""Job ids: two SpotInstanceJobs with the same one must not both begin.

An id is 32 bits of a hash, so that it fits into every name. Among 10,000 jobs two share an id with a probability of
1.2 %. Each would take the other's VMs, checkpoints and finalizers for its own. So a job does not begin as long as
another one has its id, and its status says what helps: created again, it has another UID and thus another id.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from api import names, reasons
from api.common import Condition, not_accepted
from api.object_conditions import is_over
from api.overview import overview
from api.spot_instance_job import SpotInstanceJobStatus
from clients.changes import write_current
from clients.kube import Json, Kube, of_version, path

log = logging.getLogger(__name__)

MANAGER = "outlast-bridge"


@dataclass(frozen=True)
class Known:
    """A job of the cluster."""

    namespace: str
    name: str
    uid: str

    @property
    def path(self) -> str:
        """Give the path of the object."""
        return path(names.API_VERSION, names.JOB_PLURAL, self.namespace, self.name)


class JobIds:
    """The ids of all jobs of the cluster.

    Who has begun is read from the API server, not from memory, since another bridge may have begun it. That costs
    nothing as long as all ids differ. Of two that have not begun, the older goes first, unless this bridge has already
    let the other one begin.

    Args:
        kube: the cluster, in which it may read SpotInstanceJobs and write why one does not begin.
        cluster_id: the UID from which the ids are made.
    """

    def __init__(self, kube: Kube, cluster_id: str) -> None:
        self._kube = kube
        self._cluster_id = cluster_id
        self._known: dict[str, tuple[Known, ...]] = {}  # by id
        self._owners: dict[str, str] = {}  # id → UID of the job that begins, or has begun

    def of(self, uid: str) -> str:
        """Give the id of a job."""
        return names.job_id(self._cluster_id, uid)

    def add(self, job: Known) -> None:
        """Remember a job that exists."""
        others = self._known.get(self.of(job.uid), ())
        if job not in others:
            self._known[self.of(job.uid)] = (*others, job)

    def remove(self, uid: str) -> None:
        """Forget a job that is gone, whose id is free by then."""
        job_id = self.of(uid)
        left = tuple(each for each in self._known.pop(job_id, ()) if each.uid != uid)
        if left:
            self._known[job_id] = left
        if self._owners.get(job_id) == uid:
            del self._owners[job_id]

    async def taken_by(self, job: Known) -> Known | None:
        """Find the job that has this one's id and goes before it; None if this one may begin, and has the id."""
        job_id = self.of(job.uid)
        for other in self._others(job):
            if await self._goes_first(other, job):
                self._owners[job_id] = other.uid
                break
        owner = self._owners.setdefault(job_id, job.uid)
        return next((other for other in self._others(job) if other.uid == owner), None)

    def _others(self, job: Known) -> list[Known]:
        return [each for each in self._known.get(self.of(job.uid), ()) if each.uid != job.uid]

    async def _goes_first(self, other: Known, job: Known) -> bool:
        theirs, ours = await self._read(other), await self._read(job)
        return theirs is not None and ours is not None and _precedence(theirs) < _precedence(ours)

    async def _read(self, job: Known) -> Json | None:
        found = await self._kube.find(job.path)
        return found if found and found["metadata"]["uid"] == job.uid else None

    async def refuse(self, job: Known, other: Known) -> None:
        """Write into a job's status that it does not begin, and what helps, unless that is written already."""

        async def write(found: Json) -> None:
            said = _refusal(self.of(job.uid), job, other, deleting="deletionTimestamp" in found["metadata"])
            if found["metadata"]["uid"] != job.uid or _says(found, said):
                return
            now = datetime.now(UTC).replace(microsecond=0)
            generation = found["metadata"].get("generation", 0)
            told = said.model_copy(update={"last_transition_time": now, "observed_generation": generation})
            state, message = overview(SpotInstanceJobStatus(conditions=[told]))
            status = SpotInstanceJobStatus(conditions=[told], state=state, message=message)
            body = {
                "apiVersion": names.API_VERSION,
                "kind": "SpotInstanceJob",
                "metadata": {"name": job.name, "namespace": job.namespace},
                "status": status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True),
            }
            await self._kube.apply(f"{job.path}/status", of_version(found, body), MANAGER)
            log.warning("%s/%s does not begin: %s", job.namespace, job.name, said.message)

        await write_current(self._kube, job.path, write, "its status does not say that its id is taken")


def _precedence(found: Json) -> tuple[bool, str, str]:
    """Order jobs with the same id: those that have begun before others, then the older ones."""
    metadata = found["metadata"]
    begun = names.FINALIZER in (metadata.get("finalizers") or []) or is_over(found)
    return not begun, metadata["creationTimestamp"], metadata["uid"]


def _refusal(job_id: str, job: Known, other: Known, *, deleting: bool) -> Condition:
    """Write the condition. It names no other namespace's job to those who can see only their own."""
    helps = "delete this SpotInstanceJob and create it again, which gives it another id"
    if deleting:
        helps = f"remove the finalizer {names.FINALIZER} from this SpotInstanceJob, for which nothing was begun"
    whose = f"SpotInstanceJob {other.name}" if other.namespace == job.namespace else "a job in another namespace"
    message = (
        f"its job id {job_id} is by chance also that of {whose}, and neither could tell its machines and checkpoints "
        f"from the other's: {helps}"
    )
    return not_accepted(reasons.JOB_ID_TAKEN, message)


def _says(found: Json, said: Condition) -> bool:
    told = (found.get("status") or {}).get("conditions") or []
    return any((each.get("reason"), each.get("message")) == (said.reason, said.message) for each in told)
