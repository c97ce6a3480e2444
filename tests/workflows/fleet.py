"""The world's fleet activities: other workflows by Temporal's API, for the virtual server."""

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities import signatures as act
from api import names
from api.messages import VmStart


class Fleet:
    """Starts VMs' workflows and looks for their owners."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self.keys: list[str] = []
        self.orphans: list[act.Orphan] = []
        self.seen = 0
        self.objects = act.OrphanedObjects()
        self.claims = act.OrphanedClaims()
        self.claims_removed: list[str] = []
        self.holds = act.OrphanedHolds()
        self.with_machines: list[str] = []
        self.unreadable: list[str] = []
        self.images = act.OrphanedImages()
        self.marks_removed: list[str] = []
        self.alarms: list[act.SweepAlarm] = []
        self.living: set[str] = set()  # names of jobs that live elsewhere

    async def ensure_vm(self, start: VmStart) -> act.EnsuredVm:
        if await self._status(names.vm_workflow_id(start.key)) not in {None, WorkflowExecutionStatus.RUNNING}:
            return act.EnsuredVm(open=False)
        await self._begin(start, WorkflowIDReusePolicy.REJECT_DUPLICATE)
        return act.EnsuredVm(open=True)

    async def adopt_orphan(self, start: VmStart) -> act.EnsuredVm:
        replica = int(start.key.split("-")[1].removeprefix("r"))
        teardown = start.model_copy(update={"teardown": True, "replica": replica})
        await self._begin(teardown, WorkflowIDReusePolicy.ALLOW_DUPLICATE)
        return act.EnsuredVm(open=True)

    async def _begin(self, start: VmStart, reuse: WorkflowIDReusePolicy) -> None:
        if start.key not in self.keys:
            self.keys.append(start.key)
        try:
            await self._client.start_workflow(
                names.VM_WORKFLOW,
                start,
                id=names.vm_workflow_id(start.key),
                task_queue=self._task_queue,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=reuse,
                start_signal="ensure",
                start_signal_args=[start.wish],
            )
        except WorkflowAlreadyStartedError:
            return

    async def check_owner(self, request: act.CheckOwner) -> act.Owner:
        job = request.job
        status = await self._status(names.job_workflow_id(job.namespace, job.name))
        alive = status == WorkflowExecutionStatus.RUNNING or job.name in self.living
        return act.Owner(alive=alive, reason="" if alive else "its workflow is not open")

    async def find_orphans(self, request: act.SweepRequest) -> act.Orphans:
        jobs, unreadable = self.with_machines, self.unreadable
        return act.Orphans(orphans=self.orphans, seen=self.seen, jobs=jobs, unreadable=unreadable)

    def find_orphaned_objects(self, request: act.SweepRequest) -> act.OrphanedObjects:
        return self.objects

    def find_orphaned_claims(self, request: act.SweepRequest) -> act.OrphanedClaims:
        return self.claims

    def remove_claim(self, request: act.OrphanedClaim) -> act.Done:
        self.claims_removed.append(request.name)
        return act.Done()

    def find_orphaned_holds(self, request: act.SweepRequest) -> act.OrphanedHolds:
        return self.holds

    def find_orphaned_images(self, request: act.SweepRequest) -> act.OrphanedImages:
        return self.images

    def remove_taint(self, request: act.OrphanedTaint) -> act.Done:
        self.marks_removed.append(request.node.name)
        return act.Done()

    def sound_alarm(self, request: act.SweepAlarm) -> act.Done:
        self.alarms.append(request)
        return act.Done()

    async def open_vms(self) -> list[str]:
        """Keys of the VMs whose workflow is open."""
        running = WorkflowExecutionStatus.RUNNING
        return [key for key in self.keys if await self._status(names.vm_workflow_id(key)) == running]

    async def _status(self, workflow_id: str) -> WorkflowExecutionStatus | None:
        try:
            return (await self._client.get_workflow_handle(workflow_id).describe()).status
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return None
            raise
