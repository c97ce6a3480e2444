"""The VMs of one job as its replicas see them: wanted, ensured, warned, released, gone.

Each VM is an entity of its own (``SpotVM``); this is the job's side of the conversation.
"""

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import names
    from api.market import VmWish
    from api.messages import PreemptionNotice, VmRelease, VmReport, VmStart
    from api.spot_instance_vm import OnDemandFallback
    from workflows.policy.agents import missing_agents
    from workflows.policy.on_demand import dearer_than_on_demand, may_fall_back
    from workflows.policy.restore import furthest, gpu_of

from workflows.calls import call
from workflows.job import Job
from workflows.nodes import Nodes
from workflows.state import Replica, Vm

POLL_SECONDS = 30.0
AGENT_READY = "AgentReady"
"""The condition: whether the node agent runs on every bought node. There is none as long as it was never missing."""


class Machines:
    """The VMs bought for one job."""

    def __init__(self, job: Job, nodes: Nodes) -> None:
        self.job = job
        self.state = job.state
        self.nodes = nodes

    # --- asking for one

    def wanted(self, key: str, replica: int) -> None:
        """Record a VM before anything is done about it."""
        self.state.vms[key] = Vm(key=key, replica=replica)

    async def ensure(self, key: str) -> bool:
        """Make its life begin, or ask it how it is; False where that life is over already."""
        vm = self.state.vms[key]
        ensured = await call(act.ENSURE_VM, self.start_of(vm), summary=f"ensure {names.vm_workflow_id(key)}")
        if not ensured.open:
            self._closed(key)
        return ensured.open

    def start_of(self, vm: Vm, *, found: list[str] | None = None) -> VmStart:
        """Input of its workflow; with ``found`` a teardown of instances that nobody else looks after."""
        start, state = self.job.start, self.state
        assert state.vm_spec is not None
        if vm.ssh_user is None:
            vm.ssh_user, vm.ssh_key = state.vm_spec.ssh_user, state.vm_spec.ssh_key_secret_ref
            vm.ssh_access = state.vm_spec.gcp.ssh_access
        gcp = state.vm_spec.gcp.model_copy(update={"ssh_access": vm.ssh_access})
        return VmStart(
            key=vm.key,
            cluster_id=start.cluster_id,
            job_id=start.job_id,
            replica=vm.replica,
            namespace=start.namespace,
            job_name=start.name,
            job_uid=start.uid,
            vm_name=self.job.spec.spot_instance_vm_ref.name,
            spec=state.vm_spec.model_copy(update={"ssh_user": vm.ssh_user, "gcp": gcp}),
            credentials=self.job.spec.gcp_credentials_secret_ref,
            ssh_key=vm.ssh_key,
            timings=state.timings,
            wish=self._wish_of(vm),
            teardown=found is not None,
            found=found or [],
        )

    def _wish_of(self, vm: Vm) -> VmWish:
        """What counts while it is still to be bought; told again each time it is ensured."""
        siblings = [other for other in self.state.vms.values() if other.replica != vm.replica and not other.gone]
        zones = {other.report.zone for other in siblings if other.report and other.report.zone}
        vm.on_demand = may_fall_back(vm, self.state.vms.values(), self._fallback)
        return VmWish(
            on_demand=vm.on_demand,
            avoid_zones=sorted(zones),
            same_gpu=any(point.kind == "Image" for point in self.state.points),
            image_gpu=gpu_of(furthest(self.state.points)),
            unfit=self.state.unfit,
        )

    # --- what they tell

    def changed(self, report: VmReport) -> None:
        """A VM told how it is; older reports are dropped. One that nobody here wants is let go of."""
        vm = self.state.vms.get(report.key)
        if vm is None:
            # Before it is admitted a run that was reset wants nothing yet, and hears what the one before was told.
            if self.state.admitted and report.stage not in {"Deleting", "Gone"}:
                self.job.spawn(self._send_release(report.key, "NotWanted"), f"release of {report.key}")
            return
        if vm.report is None or _is_later(report, vm.report):
            if report.why and (vm.report is None or vm.report.vm_name != report.vm_name):
                self.job.event("Buying", f"replica {vm.replica}: {report.vm_name}: {report.why}")
            vm.report = report
            if vm.existed_at is None and report.stage != "Creating":
                vm.existed_at = report.at or workflow.now()
            self._compare_costs()
            self._tell_of_agents()
        if report.stage == "Noticed" and report.vm_name:
            self.nodes.record(report.vm_name, report.reason, report.ends_at)

    def _compare_costs(self) -> None:
        """Tell once where on-demand would cost less."""
        why = dearer_than_on_demand(self.state.vms.values(), self._fallback)
        if why is not None and not self.state.on_demand_told:
            self.state.on_demand_told = True
            self.job.event("OnDemandCheaper", why, warning=True)

    def _tell_of_agents(self) -> None:
        """Say which bought nodes lack their node agent, and when none does any more. Nothing waits for that."""
        missing = missing_agents(self.state.vms.values())
        known = self.state.conditions.get(AGENT_READY)
        said = known is not None and known.status == "False"
        if missing is not None:
            self.job.condition(AGENT_READY, False, *missing)
            if not said:
                self.job.event("AgentMissing", missing[1], warning=True)
        elif said:
            self.job.condition(AGENT_READY, True, "Running", "no bought node lacks its node agent any more")
            self.job.event("AgentRuns", "no bought node lacks its node agent any more")

    @property
    def _fallback(self) -> OnDemandFallback | None:
        return self.state.vm_spec.on_demand_fallback if self.state.vm_spec else None

    def forget_gone(self) -> None:
        """The state is bounded: nothing is kept of a VM of which nothing is left."""
        for key in [vm.key for vm in self.state.vms.values() if vm.gone and not self._in_use(vm.key)]:
            if (record := self.state.vms.pop(key).record) is not None:
                self.state.ledger.add_vm(record)

    def _in_use(self, key: str) -> bool:
        """A replica is on it, or still has to conclude from its end."""
        replicas = self.state.replicas.values()
        olds = [old.vm_key for replica in replicas if replica.recovery for old in replica.recovery.olds]
        return key in olds or any(key in {replica.vm_key, replica.reserved} for replica in replicas)

    # --- letting go

    def warn(self, key: str | None, source: str) -> None:
        """Tell the VM that its machine is going; it may not have heard."""
        vm = self.state.vms.get(key or "")
        if vm and not vm.failed:
            notice = self.state.notices.get(vm.report.vm_name or "") if vm.report else None
            ends = notice.ends_at if notice else None
            left = max(0.0, (ends - workflow.now()).total_seconds()) if ends else None
            message = PreemptionNotice(source=source, seconds=left)
            self.job.spawn(self._send_notice(vm.key, message), f"notice to {vm.key}")

    async def _send_notice(self, key: str, message: PreemptionNotice) -> None:
        handle = workflow.get_external_workflow_handle(names.vm_workflow_id(key))
        try:
            await handle.signal("preemption_notice", message)
        except FailureError:
            self._closed(key)

    async def release(self, key: str | None, reason: str) -> None:
        """Let go of a VM, once; it tears itself down and reports when it is gone."""
        vm = self.state.vms.get(key or "")
        if vm is None or vm.released or vm.gone:
            return
        await self._send_release(vm.key, reason)
        vm.released = reason

    async def _send_release(self, key: str, reason: str) -> None:
        handle = workflow.get_external_workflow_handle(names.vm_workflow_id(key))
        try:
            await handle.signal("release", VmRelease(reason=reason))
        except FailureError:
            self._closed(key)

    async def release_all(self, replica: int, reason: str) -> bool:
        """Let go of all VMs of a replica and see them gone; False where the job parks before that."""
        while True:
            mine = [vm for vm in self.state.vms.values() if vm.replica == replica]
            left = [vm for vm in mine if not vm.gone]
            if not left:
                return True
            for vm in left:
                await self.release(vm.key, reason)
            waits_for = f"replica {replica}: {', '.join(vm.key for vm in left)} to be gone"
            gone = await self.job.until(
                lambda keys=[vm.key for vm in left]: all(self._is_gone(key) for key in keys),  # type: ignore[misc]
                self.job.after(POLL_SECONDS),
                waits_for,
            )
            if self.job.parking:
                return False
            if not gone:
                await self._ask_again(left)

    def _is_gone(self, key: str) -> bool:
        vm = self.state.vms.get(key)
        return vm is None or vm.gone

    async def _ask_again(self, left: list[Vm]) -> None:
        """A report may have been lost: ask each VM that is still said to live."""
        for vm in left:
            try:
                await self.ensure(vm.key)
            except ActivityError as error:
                workflow.logger.warning("%s: %s", vm.key, error.cause)
            vm.released = None if not vm.gone else vm.released  # released again, should that have been lost

    # --- the instances

    async def lives(self, replica: Replica) -> bool:
        """Ask the world, not our memory: does the machine under this replica run and its node stand?"""
        if replica.node is None:
            return False
        vm = self.state.vms.get(replica.vm_key or "")
        if vm is not None and vm.report is not None and vm.report.vm_name and vm.report.zone:
            view = await call(act.OBSERVE_VM, self._vm_ref(vm.report), summary=f"does {vm.report.vm_name} still run?")
            return view.exists and view.status == "RUNNING"
        node = act.NodeRef(name=replica.node)
        readiness = await call(act.OBSERVE_NODE, node, summary=f"does {replica.node} still stand?")
        self.state.nodes[node.name] = readiness.view
        return readiness.view.exists and readiness.view.ready and not readiness.view.marks

    def ref_of(self, key: str | None) -> act.VmRef | None:
        """The instance of a VM that runs; None where there is none (any more)."""
        vm = self.state.vms.get(key or "")
        known = vm is not None and vm.report is not None and vm.report.vm_name and not vm.dead
        return self._vm_ref(vm.report) if vm and vm.report and known else None

    def _vm_ref(self, report: VmReport) -> act.VmRef:
        assert self.state.vm_spec is not None
        return act.VmRef(
            project=self.state.vm_spec.gcp.project,
            zone=report.zone or self.state.vm_spec.gcp.zone,
            name=report.vm_name or "",
            namespace=self.job.start.namespace,
            credentials=self.job.spec.gcp_credentials_secret_ref,
            labels={names.GCE_LABEL_JOB: self.job.start.job_id},
        )

    # --- workflows that have ended

    def _closed(self, key: str) -> None:
        """Its workflow has ended: by itself, which it tells before, or by a person's hand, and a machine may run."""
        vm = self.state.vms.get(key)
        if vm is None or vm.gone:
            return
        if vm.report is not None and vm.report.vm_name:
            update = {"stage": "Deleting", "reason": "Closed", "at": workflow.now()}
            vm.report = vm.report.model_copy(update=update)
            self.job.spawn(self._adopt(vm, f"{vm.report.zone}/{vm.report.vm_name}"), f"teardown of {key}")
        else:
            vm.report = VmReport(key=key, number=1, stage="Gone", reason="Closed", dead=True, at=workflow.now())
        self.job.touch()

    async def _adopt(self, vm: Vm, found: str) -> None:
        """Begin a life that only tears down; where that fails the sweep does, for nobody looks after the machine."""
        try:
            await call(act.ADOPT_ORPHAN, self.start_of(vm, found=[found]), summary=f"tear down {found}")
        except ActivityError as error:
            workflow.logger.warning("teardown of %s: %s", vm.key, error.cause)


def _is_later(report: VmReport, known: VmReport) -> bool:
    """By its time: a life that was reset, or that only tears down, numbers its reports from 1 again."""
    if report.at is not None and known.at is not None and report.at != known.at:
        return report.at > known.at
    return report.number > known.number
