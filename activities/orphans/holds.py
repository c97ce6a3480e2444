"""Finalizers that nobody takes off: of jobs that are gone, on Secrets and SpotInstanceVMs that they held.

A job's workflow lets go as its last act. Where it was terminated and the job's own finalizer taken off by force, a
namespace would be ``Terminating`` for ever.
"""

from temporalio import activity
from temporalio.client import Client

from activities import signatures
from activities.finalizers import held_by_any, holders
from activities.orphans.owners import owners
from activities.orphans.sources import NOBODY
from activities.secret import Sharing
from activities.signatures import JobRef, OrphanedHolds, SweepRequest
from api import names
from clients.kube import Kube, path


class OrphanedHoldActivities:
    """Finds them.

    Args:
        temporal: the service that runs the workflows of jobs and VMs.
        kube: the cluster.
        sharing: whose Secrets jobs of other namespaces may hold.
    """

    def __init__(self, temporal: Client, kube: Kube, sharing: Sharing | None = None) -> None:
        self._temporal = temporal
        self._kube = kube
        self._sharing = sharing or Sharing(kube)

    @activity.defn(name=signatures.FIND_ORPHANED_HOLDS.name)
    async def find_orphaned_holds(self, request: SweepRequest) -> OrphanedHolds:
        """Look at all that any job holds. There is no grace period: who holds is there before."""
        machines = await self._kube.list(path(names.API_VERSION, names.VM_PLURAL))
        held = [*machines, *await held_by_any(self._kube, machines, self._sharing.namespaces)]
        holding = {job_id: workflow for each in held for job_id, workflow in holders(each)}
        asked = await owners(self._temporal, self._kube, request.cluster_id)
        gone = []
        for job_id, workflow_id in sorted(holding.items()):
            if await asked.is_gone(job_id, workflow_id) and not await self._has_vms(job_id):
                namespace, _, name = workflow_id.partition("/")
                # Nobody's UID: what bears the job's name by now is not let go.
                gone.append(JobRef(namespace=namespace, name=name, uid=NOBODY, job_id=job_id))
        return OrphanedHolds(jobs=gone, seen=len(holding))

    async def _has_vms(self, job_id: str) -> bool:
        """A VM of the job is being torn down: that needs the job's credentials."""
        vms = names.vm_workflow_id(f"{job_id}-")
        query = f"WorkflowType='{names.VM_WORKFLOW}' AND ExecutionStatus='Running' AND WorkflowId STARTS_WITH '{vms}'"
        return (await self._temporal.count_workflows(query)).count > 0
