"""The world's fleet activities, which reach other workflows by Temporal's API, for the virtual server."""

import contextlib
from collections.abc import Callable
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities import signatures as act
from api import names
from api.diagnosis import Finding
from api.messages import VmStart
from api.views import VmView


def _nothing(_: Any) -> Any:
    raise AssertionError("this fleet has no machines")


class Fleet:
    """Starts the workflows of VMs and looks for their owners."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self.keys: list[str] = []
        self.orphans: list[act.Orphan] = []
        self.seen = 0
        self.objects = act.OrphanedObjects()
        self.claims = act.OrphanedClaims()
        self.claims_removed: list[str] = []
        self.holds = act.OrphanedFinalizers()
        self.with_machines: list[str] = []
        self.unreadable: list[str] = []
        self.observe_vm: Callable[[act.VmRef], VmView] = _nothing  # the cloud's, and the cluster's
        self.observe_node: Callable[[act.NodeRef], act.NodeReadiness] = _nothing
        self.images = act.OrphanedImages()
        self.marks_removed: list[str] = []
        self.alarms: list[act.SweepAlarm] = []
        self.stuck = act.FoundStuck()
        self.stuck_told: list[act.TellStuck] = []
        self.living: set[str] = set()  # names of jobs that live elsewhere

    async def ensure_vm(self, start: VmStart) -> act.EnsuredVm:
        if await self._status(names.vm_workflow_id(start.key)) not in {None, WorkflowExecutionStatus.RUNNING}:
            return act.EnsuredVm(open=False)
        try:
            await self._start(start, WorkflowIDReusePolicy.REJECT_DUPLICATE, WorkflowIDConflictPolicy.FAIL)
        except WorkflowAlreadyStartedError:
            await self._begin(start, WorkflowIDReusePolicy.REJECT_DUPLICATE)
        return act.EnsuredVm(open=True)

    async def adopt_orphan(self, start: VmStart) -> act.EnsuredVm:
        replica = int(start.key.split("-")[1].removeprefix("r"))
        teardown = start.model_copy(update={"teardown": True, "replica": replica})
        await self._begin(teardown, WorkflowIDReusePolicy.ALLOW_DUPLICATE)
        return act.EnsuredVm(open=True)

    async def _begin(self, start: VmStart, reuse: WorkflowIDReusePolicy) -> None:
        with contextlib.suppress(WorkflowAlreadyStartedError):
            await self._start(start, reuse, WorkflowIDConflictPolicy.USE_EXISTING, signal="ensure")

    async def _start(
        self,
        start: VmStart,
        reuse: WorkflowIDReusePolicy,
        conflict: WorkflowIDConflictPolicy,
        signal: str | None = None,
    ) -> None:
        if start.key not in self.keys:
            self.keys.append(start.key)
        await self._client.start_workflow(
            names.VM_WORKFLOW,
            start,
            id=names.vm_workflow_id(start.key),
            task_queue=self._task_queue,
            id_conflict_policy=conflict,
            id_reuse_policy=reuse,
            start_signal=signal,
            start_signal_args=[start.request] if signal else [],
        )

    async def check_owner(self, request: act.CheckOwner) -> act.Owner:
        job = request.job
        status = await self._status(names.job_workflow_id(job.namespace, job.name))
        alive = status == WorkflowExecutionStatus.RUNNING or job.name in self.living
        return act.Owner(alive=alive, reason="" if alive else "its workflow is not open")

    async def look_at_vm(self, look: act.LookAtVm) -> act.SeenVm:
        return act.SeenVm(
            vm=self.observe_vm(look.vm),
            node=self.observe_node(look.node),
            owner=await self.check_owner(act.CheckOwner(job=look.job)),
        )

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

    def find_orphaned_holds(self, request: act.SweepRequest) -> act.OrphanedFinalizers:
        return self.holds

    def find_orphaned_images(self, request: act.SweepRequest) -> act.OrphanedImages:
        return self.images

    def remove_taint(self, request: act.OrphanedTaint) -> act.Done:
        self.marks_removed.append(request.node.name)
        return act.Done()

    def find_stuck(self, request: act.SweepRequest) -> act.FoundStuck:
        return self.stuck

    def tell_stuck(self, request: act.TellStuck) -> act.Done:
        self.stuck_told.append(request)
        return act.Done()

    def diagnose(self, request: act.Diagnose) -> act.Diagnosed:
        told = Finding(part="quota", well=True, told=f"for {len(request.vms)} VMs")
        return act.Diagnosed(findings=[told])

    def sound_alarm(self, request: act.SweepAlarm) -> act.Done:
        self.alarms.append(request)
        return act.Done()

    async def open_vms(self) -> list[str]:
        """List the keys of the VMs whose workflow is open."""
        running = WorkflowExecutionStatus.RUNNING
        return [key for key in self.keys if await self._status(names.vm_workflow_id(key)) == running]

    async def _status(self, workflow_id: str) -> WorkflowExecutionStatus | None:
        try:
            return (await self._client.get_workflow_handle(workflow_id).describe()).status
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return None
            raise
