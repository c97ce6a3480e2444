"""The activities on VMs' workflows: start them, and find the owner of a VM."""

from datetime import timedelta

from temporalio import activity
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError

from activities import signatures
from activities.orphans.owners import is_finished
from activities.signatures import CheckOwner, EnsuredVm, Owner
from api import errors, names
from api.messages import VmStart
from api.search_attributes import JOB, JOB_ID, NAMESPACE, PROJECT, Values
from clients.kube import Kube, path
from clients.search_attributes import Registration, typed
from clients.temporal import fair, latest_run

RPC_SECONDS = timedelta(seconds=5)


class FleetActivities:
    """Starts and finds VMs' workflows.

    Args:
        temporal: the service that runs the workflows.
        kube: the cluster whose jobs they serve.
        task_queue: the queue of the worker that runs them.
        attributes: says whether VMs' workflows may have search attributes.
    """

    def __init__(
        self,
        temporal: Client,
        kube: Kube,
        task_queue: str = names.TASK_QUEUE,
        attributes: Registration | None = None,
    ) -> None:
        self._temporal = temporal
        self._kube = kube
        self._task_queue = task_queue
        self._attributes = attributes or Registration()

    @activity.defn(name=signatures.ENSURE_VM.name)
    async def ensure_vm(self, start: VmStart) -> EnsuredVm:
        """Start a VM's workflow, or signal the running one. A workflow that has ended is not started again.

        The signal is left out if this call starts the workflow, because its input says the same.
        """
        if await self._begins(start):
            return EnsuredVm(open=True)
        try:
            await self._start(start, WorkflowIDReusePolicy.REJECT_DUPLICATE, signal="ensure")
        except WorkflowAlreadyStartedError:
            return EnsuredVm(open=False)
        return EnsuredVm(open=True)

    async def _begins(self, start: VmStart) -> bool:
        """Start a VM's workflow; False if there is or was one already."""
        try:
            await self._start(start, WorkflowIDReusePolicy.REJECT_DUPLICATE, conflict=WorkflowIDConflictPolicy.FAIL)
        except WorkflowAlreadyStartedError:
            return False
        return True

    @activity.defn(name=signatures.ADOPT_ORPHAN.name)
    async def adopt_orphan(self, start: VmStart) -> EnsuredVm:
        """Start the teardown of a VM under its own workflow id; a workflow that runs there continues undisturbed.

        An inventory made by names may not know the replica. The key contains it, as does the instance's label.
        """
        if not names.is_vm_key(start.key):
            message = f"{names.shown(start.key)} is not the key of a VM"
            raise ApplicationError(message, type=errors.INVALID, non_retryable=True)
        teardown = start.model_copy(update={"teardown": True, "replica": names.replica_in(start.key)})
        await self._start(teardown, WorkflowIDReusePolicy.ALLOW_DUPLICATE)
        return EnsuredVm(open=True)

    async def _start(
        self,
        start: VmStart,
        reuse: WorkflowIDReusePolicy,
        signal: str | None = None,
        conflict: WorkflowIDConflictPolicy = WorkflowIDConflictPolicy.USE_EXISTING,
    ) -> None:
        gcp = start.spec.gcp
        found_by: Values = {JOB_ID: start.job_id, NAMESPACE: start.namespace, JOB: start.job_name, PROJECT: gcp.project}
        await self._temporal.start_workflow(
            names.VM_WORKFLOW,
            start,
            id=names.vm_workflow_id(start.key),
            task_queue=self._task_queue,
            id_reuse_policy=reuse,
            id_conflict_policy=conflict,
            start_signal=signal,
            start_signal_args=[start.request] if signal else [],
            static_summary=f"{start.namespace}/{start.job_name} · replica {start.replica} · {gcp.machine_type}"[:200],
            priority=fair(start.namespace),
            search_attributes=typed(found_by) if self._attributes.registered else None,
            rpc_timeout=RPC_SECONDS,
        )

    @activity.defn(name=signatures.CHECK_OWNER.name)
    async def check_owner(self, check: CheckOwner) -> Owner:
        """Find out whether the job of a VM still exists. A failed read is raised, never taken for a no."""
        job = check.job
        found = await self._kube.find(path(names.API_VERSION, names.JOB_PLURAL, job.namespace, job.name))
        if await self._is_open(names.job_workflow_id(job.namespace, job.name)):
            if found is not None and found["metadata"]["uid"] != job.uid:
                return Owner(alive=False, reason=f"{job.namespace}/{job.name} is another job by now")
            return Owner(alive=True, reason="its workflow is open")
        if found is None:
            return Owner(alive=False, reason=f"SpotInstanceJob {job.namespace}/{job.name} is gone")
        if found["metadata"]["uid"] != job.uid:
            return Owner(alive=False, reason=f"{job.namespace}/{job.name} is another job by now")
        if is_finished(found):
            return Owner(alive=False, reason=f"SpotInstanceJob {job.namespace}/{job.name} has ended")
        return Owner(alive=True, reason="its workflow may be started again")

    async def _is_open(self, workflow_id: str) -> bool:
        found = await latest_run(self._temporal, workflow_id, RPC_SECONDS)
        return found is not None and found.close_time is None
