"""Finalizers that nobody removes: those of jobs that are gone, on the Secrets and SpotInstanceVMs that they protected.

A job's workflow removes its finalizers as its last act. If the workflow was terminated and the job's own finalizer
removed by force, a namespace would be ``Terminating`` forever.
"""

from temporalio import activity
from temporalio.client import Client

from activities import signatures
from activities.documents.protected import protected_by_any, protectors
from activities.kubernetes.secret import Sharing
from activities.orphans.owners import owners
from activities.orphans.sources import NOBODY
from activities.signatures import JobRef, OrphanedFinalizers, SweepRequest
from api import names
from clients.kube import Kube, path


class OrphanedFinalizerActivities:
    """Finds the jobs whose finalizers are orphaned.

    Args:
        temporal: the service that runs the workflows of jobs and VMs.
        kube: the cluster.
        sharing: the rules on Secrets of other namespaces, which jobs may have protected.
    """

    def __init__(self, temporal: Client, kube: Kube, sharing: Sharing | None = None) -> None:
        self._temporal = temporal
        self._kube = kube
        self._sharing = sharing or Sharing(kube)

    @activity.defn(name=signatures.FIND_ORPHANED_FINALIZERS.name)
    async def find_orphaned_finalizers(self, request: SweepRequest) -> OrphanedFinalizers:
        """Check all objects that any job protects. No grace period is needed: a job exists before it protects."""
        machines = await self._kube.list(path(names.API_VERSION, names.VM_PLURAL))
        protected = [*machines, *await protected_by_any(self._kube, machines, self._sharing.namespaces)]
        protecting = {job_id: workflow for each in protected for job_id, workflow in protectors(each)}
        asked = await owners(self._temporal, self._kube, request.cluster_id)
        gone = []
        for job_id, workflow_id in sorted(protecting.items()):
            if await asked.is_gone(job_id, workflow_id) and not await self._has_vms(job_id):
                namespace, _, name = workflow_id.partition("/")
                # Nobody's UID: an object that has the job's name by now keeps its finalizer.
                gone.append(JobRef(namespace=namespace, name=name, uid=NOBODY, job_id=job_id))
        return OrphanedFinalizers(jobs=gone, seen=len(protecting))

    async def _has_vms(self, job_id: str) -> bool:
        """True if a VM of the job is being torn down, which needs the job's credentials."""
        vms = names.vm_workflow_id(f"{job_id}-")
        query = f"WorkflowType='{names.VM_WORKFLOW}' AND ExecutionStatus='Running' AND WorkflowId STARTS_WITH '{vms}'"
        return (await self._temporal.count_workflows(query)).count > 0
