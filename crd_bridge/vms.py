"""SpotInstanceVMs: an edit concerns the jobs that buy by it. A VM's workflow keeps the spec that it was bought by."""

from collections.abc import Callable
from functools import partial

from api import names
from api.messages import SpecChanged
from clients.kube import Json
from crd_bridge.jobs import Job, Jobs
from crd_bridge.queues import Queues
from crd_bridge.reported import Reported
from crd_bridge.temporal import Gateway


class Vms:
    """All SpotInstanceVMs of the cluster. ``moved`` is called with the key of one that came, went or was edited."""

    def __init__(
        self,
        jobs: Jobs,
        gateway: Gateway,
        queues: Queues,
        moved: Callable[[str], None],
        reported: Reported,
    ) -> None:
        self._reported = reported
        self._moved = moved
        self._jobs = jobs
        self._gateway = gateway
        self._queues = queues
        self._told: dict[str, tuple[str, int]] = {}  # key → uid and generation

    def changed(self, key: str, item: Json | None, version: int) -> None:
        """Report that a SpotInstanceVM was created, edited or, without ``item``, is gone: a job may wait for it."""
        if item is None:
            self._told.pop(key, None)
            self._moved(key)
            return
        now = (item["metadata"]["uid"], item["metadata"].get("generation", 0))
        if self._told.get(key) == now:
            return
        self._told[key] = now
        self._moved(key)
        if self._reported.covers(names.VM_PLURAL, version):
            return
        namespace, name = key.split("/")
        for job in self._jobs.naming(namespace, name):
            if not (job.over or job.deleting):
                owed = (names.VM_PLURAL, version)
                self._queues.put(("vm", key, job.key), partial(self._tell, job, now[1]), owed=owed)

    async def _tell(self, job: Job, vm_generation: int) -> None:
        message = SpecChanged(uid=job.uid, generation=job.generation, vm_generation=vm_generation)
        await self._gateway.signal(job.key, "spec_changed", message)
