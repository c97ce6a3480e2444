"""The activities on VMs' workflows: start them, and ask who owns a VM."""

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
from clients.kube import Kube, path
from clients.temporal import latest_run

RPC_SECONDS = timedelta(seconds=5)


class FleetActivities:
    """Knows VMs by their workflows.

    Args:
        temporal: the service that runs them.
        kube: the cluster whose CRs they serve.
        task_queue: of the worker that is to run them.
    """

    def __init__(self, temporal: Client, kube: Kube, task_queue: str = names.TASK_QUEUE) -> None:
        self._temporal = temporal
        self._kube = kube
        self._task_queue = task_queue

    @activity.defn(name=signatures.ENSURE_VM.name)
    async def ensure_vm(self, start: VmStart) -> EnsuredVm:
        """Start a VM's workflow, or tell the running one that the job asks. A life that is over is not begun again."""
        try:
            await self._start(start, WorkflowIDReusePolicy.REJECT_DUPLICATE, signal="ensure")
        except WorkflowAlreadyStartedError:
            return EnsuredVm(open=False)
        return EnsuredVm(open=True)

    @activity.defn(name=signatures.ADOPT_ORPHAN.name)
    async def adopt_orphan(self, start: VmStart) -> EnsuredVm:
        """Start the teardown of a VM under its own workflow id; where that workflow runs, it goes on undisturbed.

        Who takes stock by names alone may not know the replica. The key does, and the instance's label says the same.
        """
        if not names.is_vm_key(start.key):
            message = f"{names.shown(start.key)} is not the key of a VM"
            raise ApplicationError(message, type=errors.INVALID, non_retryable=True)
        teardown = start.model_copy(update={"teardown": True, "replica": names.replica_in(start.key)})
        await self._start(teardown, WorkflowIDReusePolicy.ALLOW_DUPLICATE)
        return EnsuredVm(open=True)

    async def _start(self, start: VmStart, reuse: WorkflowIDReusePolicy, signal: str | None = None) -> None:
        gcp = start.spec.gcp
        await self._temporal.start_workflow(
            names.VM_WORKFLOW,
            start,
            id=names.vm_workflow_id(start.key),
            task_queue=self._task_queue,
            id_reuse_policy=reuse,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal=signal,
            start_signal_args=[start.wish] if signal else [],
            static_summary=f"{start.namespace}/{start.job_name} · replica {start.replica} · {gcp.machine_type}"[:200],
            rpc_timeout=RPC_SECONDS,
        )

    @activity.defn(name=signatures.CHECK_OWNER.name)
    async def check_owner(self, check: CheckOwner) -> Owner:
        """Does the job still live for which a VM was bought? What cannot be read is raised, never taken for a no."""
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
