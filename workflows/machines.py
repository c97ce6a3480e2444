"""The VMs of one job as its replicas see them: wanted, ensured, noticed, released, gone.

Each VM is an entity of its own (``SpotVM``); this is the job's side of the conversation.
"""

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import names
    from api.market import VmWish
    from api.messages import PreemptionNotice, VmRelease, VmReport, VmStart
    from api.views import NodeView
    from workflows.calls import call
    from workflows.job import Job
    from workflows.policy.notice import ends_at
    from workflows.policy.restore import furthest, gpu_of
    from workflows.policy.survivor import going
    from workflows.state import Notice, Old, Replica, Vm

FAILED = frozenset({"Noticed", "Lost", "Deleting", "Gone"})
POLL_SECONDS = 30.0


class Machines:
    """The VMs bought for one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state

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
        return VmStart(
            key=vm.key,
            cluster_id=start.cluster_id,
            job_id=start.job_id,
            replica=vm.replica,
            namespace=start.namespace,
            job_name=start.name,
            job_uid=start.uid,
            vm_name=self.job.spec.spot_instance_vm_ref.name,
            spec=state.vm_spec,
            credentials=self.job.spec.gcp_credentials_secret_ref,
            ssh_key=state.vm_spec.ssh_key_secret_ref,
            timings=state.timings,
            wish=self._wish_of(vm),
            teardown=found is not None,
            found=found or [],
        )

    def _wish_of(self, vm: Vm) -> VmWish:
        """What counts while it is still to be bought; told again each time it is ensured."""
        siblings = [other for other in self.state.vms.values() if other.replica != vm.replica and not other.gone]
        zones = {other.report.zone for other in siblings if other.report and other.report.zone}
        vm.on_demand = self._may_fall_back(vm)
        return VmWish(
            on_demand=vm.on_demand,
            avoid_zones=sorted(zones),
            same_gpu=any(point.kind == "Image" for point in self.state.points),
            image_gpu=gpu_of(furthest(self.state.points)),
        )

    def _may_fall_back(self, vm: Vm) -> bool:
        """On-demand is granted to so many VMs at once as the spec says; one that runs on spot gives its grant back."""
        fallback = self.state.vm_spec.on_demand_fallback if self.state.vm_spec else None
        if fallback is None or vm.spot_only:
            return False
        granted = [other for other in self.state.vms.values() if other is not vm and other.holds_on_demand]
        return len(granted) < fallback.max_replicas

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
            self._compare_costs()
        if report.stage == "Noticed" and report.vm_name:
            self._record(report.vm_name, report.reason, report.ends_at)

    def _compare_costs(self) -> None:
        """Two spot VMs may cost more than one on-demand VM, which nobody takes away."""
        fallback = self.state.vm_spec.on_demand_fallback if self.state.vm_spec else None
        if fallback is None or fallback.price_per_hour is None or self.state.on_demand_told:
            return
        reports = [vm.report for vm in self.state.vms.values() if vm.report and not vm.gone and not vm.runs_on_demand]
        prices = [report.price for report in reports if report.price is not None]
        if len(prices) < 2 or sum(prices) <= float(fallback.price_per_hour):
            return
        self.state.on_demand_told = True
        message = (
            f"{len(prices)} spot VMs cost ${sum(prices):.3f} an hour, one on-demand VM ${fallback.price_per_hour}: "
            "with replicas: 1 on-demand would cost less"
        )
        self.job.event("OnDemandCheaper", message, warning=True)

    def see_node(self, view: NodeView) -> None:
        """A Node as it is now; its marks are notices."""
        self.state.nodes[view.name] = view
        if view.marks:
            self.notice(view.name, view.marks[0], began=view.marked_at)
        if view.exists and not view.ready:
            self.state.unready.setdefault(view.name, workflow.now())
        else:
            self.state.unready.pop(view.name, None)
        self.job.touch()

    def notice(self, node: str, source: str, *, told: float | None = None, began: datetime | None = None) -> None:
        """Somebody announces a machine's end: ``told`` so many seconds from now, or in a notice that ``began`` then."""
        reports = [vm.report for vm in self.state.vms.values() if vm.report]
        usual = next((report.notice_seconds for report in reports if report.vm_name == node), None)
        self._record(node, source, ends_at(workflow.now(), told=told, began=began, usual=usual))

    def _record(self, node: str, source: str, ends: datetime | None) -> None:
        """The second notice of the same machine changes nothing, whoever it comes from."""
        if node not in self.state.notices:
            self.state.notices[node] = Notice(source=source, at=workflow.now(), ends_at=ends)
            self.job.touch()

    def forget_gone(self) -> None:
        """The state is bounded: nothing is kept of a VM of which nothing is left."""
        for key in [vm.key for vm in self.state.vms.values() if vm.gone and not self._in_use(vm.key)]:
            del self.state.vms[key]

    # --- letting go

    def noticed(self, key: str | None, source: str) -> None:
        """Tell the VM that its machine is going; it may not have heard."""
        vm = self.state.vms.get(key or "")
        if vm and not (vm.report and vm.report.stage in FAILED):
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

    async def _ask_again(self, left: list[Vm]) -> None:
        """A report may have been lost: ask each VM that is still said to live."""
        for vm in left:
            try:
                await self.ensure(vm.key)
            except ActivityError as error:
                workflow.logger.warning("%s: %s", vm.key, error.cause)
            vm.released = None if not vm.gone else vm.released  # released again, should that have been lost

    # --- what is known

    def failed(self, key: str | None) -> bool:
        """The VM is of no use any more: it said so, or somebody announced its end."""
        vm = self.state.vms.get(key or "")
        if vm is None or vm.report is None:
            return False
        name = vm.report.vm_name  # the Node's too
        return vm.report.stage in FAILED or (name is not None and going(name, self.state.nodes, self.state.notices))

    def node_of(self, replica: Replica) -> str | None:
        """The node under a replica, or the one that is on its way."""
        vm = self.state.vms.get(replica.vm_key or "")
        return replica.node or (vm.report.vm_name if vm and vm.report else None)

    def unready_for(self, node: str | None) -> timedelta:
        """How long a node is NotReady; zero where it is Ready or unknown."""
        since = self.state.unready.get(node or "")
        return workflow.now() - since if since else timedelta()

    def abandoned(self, node: str | None, vm_key: str | None) -> bool:
        """NotReady for too long, and no cloud to ask about it: a machine that we did not buy."""
        return vm_key is None and self.unready_for(node) >= timedelta(seconds=self.state.timings.not_ready_grace)

    def dead(self, old: Old) -> bool:
        """Its machine is confirmed not to run."""
        vm = self.state.vms.get(old.vm_key or "")
        node = self.state.nodes.get(old.node or "")
        forgotten = old.vm_key is not None and vm is None  # dropped when it was gone
        gone = node is not None and not node.exists
        return forgotten or gone or (vm is not None and vm.dead) or self.abandoned(old.node, old.vm_key)

    def stopped(self, old: Old) -> bool:
        """The old pod is confirmed stopped, or its machine is gone."""
        if self.dead(old):
            return True
        view = old.view
        if view is None:
            return False
        if view.pod is None:
            return not view.job_exists or view.job_failed is not None
        return view.pod.phase in {"Succeeded", "Failed"}

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

    def _is_gone(self, key: str) -> bool:
        vm = self.state.vms.get(key)
        return vm is None or vm.gone

    def _in_use(self, key: str) -> bool:
        """A replica is on it, or still has to conclude from its end."""
        replicas = self.state.replicas.values()
        olds = [old.vm_key for replica in replicas if replica.recovery for old in replica.recovery.olds]
        return key in olds or any(key in {replica.vm_key, replica.reserved} for replica in replicas)


def _is_later(report: VmReport, known: VmReport) -> bool:
    """By its time: a life that was reset, or that only tears down, numbers its reports from 1 again."""
    if report.at is not None and known.at is not None and report.at != known.at:
        return report.at > known.at
    return report.number > known.number
