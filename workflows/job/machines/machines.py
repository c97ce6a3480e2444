"""The VMs of one job as its replicas see them: recorded, ensured, warned, released, gone.

Each VM has a workflow of its own (``SpotVM``). This is the job's side of the conversation.
"""

from collections.abc import Iterable

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import conditions, events, metrics, names, reasons
    from api.market import VmRequest
    from api.messages import PreemptionNotice, VmRelease, VmReport, VmStart
    from api.spot_instance_vm import OnDemandFallback
    from workflows.job.checkpoints.policy.restore import furthest, gpu_of
    from workflows.job.machines.policy.agents import missing_agents
    from workflows.job.machines.policy.on_demand import dearer_than_on_demand, may_fall_back
    from workflows.policy.candidates import candidates_of

from workflows.common.calls import call
from workflows.common.patches import patched
from workflows.job.core.job import Job
from workflows.job.machines.nodes import Nodes
from workflows.job.state.ledger import hours_of
from workflows.job.state.replica import Replica
from workflows.job.state.seats import Seat
from workflows.job.state.vm import Vm

POLL_SECONDS = 30.0


class Machines:
    """Asks for the VMs of one job, takes in their reports, and releases them."""

    def __init__(self, job: Job, nodes: Nodes) -> None:
        self.job = job
        self.state = job.state
        self.nodes = nodes

    # --- buying

    def add(self, replica: Replica) -> str:
        """Record one more VM for a replica before anything is done about it, and return its key."""
        replica.place.number += 1
        key = names.vm_key(self.job.start.job_id, replica.index, replica.place.number)
        self.state.vms[key] = Vm(key=key, replica=replica.index)
        return key

    async def ensure(self, key: str) -> bool:
        """Start the VM's workflow, or ask it for a report. False if that workflow has ended."""
        vm = self.state.vms[key]
        ensured = await call(act.ENSURE_VM, self.start_of(vm), summary=f"ensure {names.vm_workflow_id(key)}")
        if not ensured.open:
            self._closed(key)
        return ensured.open

    def start_of(self, vm: Vm, *, found: list[str] | None = None) -> VmStart:
        """Make the input of a VM's workflow. With ``found`` the workflow only tears down these orphaned instances."""
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
            request=self._request_for(vm),
            placement=names.placement_name(start.job_id, vm.replica) if self.job.spec.is_compact else None,
            teardown=found is not None,
            found=found or [],
        )

    def _request_for(self, vm: Vm) -> VmRequest:
        """Make the VM request, which counts until the VM is bought. It is sent again each time the VM is ensured."""
        me = self.state.replicas.get(vm.replica)
        siblings = [other for other in self.state.vms.values() if other.replica != vm.replica and not other.gone]
        zones = {other.report.zone for other in siblings if other.report and other.report.zone}
        vm.on_demand = may_fall_back(vm, self.state.vms.values(), self._fallback)
        return VmRequest(
            on_demand=vm.on_demand,
            avoid_zones=sorted(zones),
            same_gpu=any(point.kind == "Image" for point in self.state.points),
            image_gpu=gpu_of(furthest(self.state.points)),
            unfit=[*self.state.unfit, *self._in_short_zones(me)],
            zone=self._zone_for(vm, me),
        )

    def _zone_for(self, vm: Vm, me: Replica | None) -> str | None:
        """Return the zone of a gang's other machines, if it has to be in one; None if any zone will do."""
        if me is None or not self.job.spec.in_one_zone:
            return None
        return self.zone_of(key for key in [*me.place.vm_keys, *me.place.spare_keys] if key != vm.key)

    def zone_of(self, keys: Iterable[str]) -> str | None:
        """Return the zone of the first of these VMs that exists; None if none does."""
        vms = [self.state.vms[key] for key in keys if key in self.state.vms]
        zones = [vm.report.zone for vm in vms if vm.report and vm.report.zone and not vm.to_be_bought and not vm.failed]
        return zones[0] if zones else None

    def _in_short_zones(self, me: Replica | None) -> list[str]:
        """List the candidates in zones that could not hold all of this gang, unless there is no other zone."""
        short = {zone for zone, until in me.place.short_zones.items() if until > workflow.now()} if me else set()
        if not short or self.state.vm_spec is None:
            return []
        candidates = candidates_of(self.state.vm_spec, on_demand=True)
        if all(candidate.zone in short for candidate in candidates):
            return []
        return [candidate.label for candidate in candidates if candidate.zone in short]

    # --- their reports

    def changed(self, report: VmReport) -> None:
        """Take in a VM report. Older ones are ignored, and a VM that the job does not know is released."""
        vm = self.state.vms.get(report.key)
        if vm is None:
            # A run after a reset receives the reports of the run before, and knows no VMs until the job is accepted.
            if self.state.admitted and report.stage not in {"Deleting", "Gone"}:
                self.job.spawn(self._send_release(report.key, "NotWanted"), f"release of {report.key}")
            return
        if vm.report is None or _is_later(report, vm.report):
            if report.why and (vm.report is None or vm.report.vm_name != report.vm_name):
                self.job.event(events.BUYING, f"replica {vm.replica}: {report.vm_name}: {report.why}")
            vm.report = report
            if vm.existed_at is None and report.stage != "Creating":
                vm.existed_at = report.at or workflow.now()
            if vm.gone:
                self._measure_cost(vm)
            self._compare_costs()
            self._report_agents()
        if report.stage == "Noticed" and report.vm_name:
            self.nodes.record(report.vm_name, report.reason, report.ends_at)

    def _measure_cost(self, gone: Vm) -> None:
        vm = gone.record(self._fallback)
        if vm is None:
            return
        costs = {metrics.VM_COST: vm.price_per_hour, metrics.VM_ON_DEMAND_COST: vm.on_demand_per_hour}
        for metric, price in costs.items():
            if price is not None:
                self.job.measure(metric, hours_of(vm) * price, provisioning=vm.provisioning or "Spot")

    def _compare_costs(self) -> None:
        """Report once if on-demand would cost less."""
        why = dearer_than_on_demand(self.state.vms.values(), self._fallback)
        if why is not None and not self.state.on_demand_told:
            self.state.on_demand_told = True
            self.job.event(events.ON_DEMAND_CHEAPER, why, warning=True)

    def _report_agents(self) -> None:
        """Report which bought nodes lack their node agent, and later that none does. Nothing waits for that."""
        missing = missing_agents(self.state.vms.values())
        known = self.state.conditions.get(conditions.AGENT_READY)
        reported = known is not None and known.status == "False"
        if missing is not None:
            self.job.condition(conditions.AGENT_READY, False, *missing)
            if not reported:
                self.job.event(events.AGENT_MISSING, missing[1], warning=True)
        elif reported:
            self.job.condition(
                conditions.AGENT_READY, True, reasons.AGENT_RUNS, "no bought node lacks its node agent any more"
            )
            self.job.event(events.AGENT_RUNS, "no bought node lacks its node agent any more")

    @property
    def _fallback(self) -> OnDemandFallback | None:
        return self.state.on_demand_fallback

    def forget_gone(self) -> None:
        """Forget VMs of which nothing is left, because the state is bounded."""
        for key in [vm.key for vm in self.state.vms.values() if vm.gone and not self._in_use(vm.key)]:
            if (record := self.state.vms.pop(key).record(self._fallback)) is not None:
                self.state.ledger.add_vm(record)

    def _in_use(self, key: str) -> bool:
        """True if a replica has this VM, or still has to act on its end."""
        replicas = self.state.replicas.values()
        olds = [old for replica in replicas if replica.recovery for old in replica.recovery.olds]
        seated = [*olds, *(replica.place for replica in replicas)]
        kept = [*(one.spot_return.reserved for one in replicas), *(k for one in replicas for k in one.place.spare_keys)]
        return any(each.owns(key) for each in seated) or key in kept

    # --- releasing

    def warn(self, key: str | None, source: str) -> None:
        """Send the VM's workflow a notice of its machine's end, of which it may not know."""
        vm = self.state.vm(key)
        if vm and not vm.failed and not self._is_marked(vm):
            notice = self.state.notice(vm.report.vm_name) if vm.report else None
            ends = notice.ends_at if notice else None
            left = max(0.0, (ends - workflow.now()).total_seconds()) if ends else None
            message = PreemptionNotice(source=source, seconds=left)
            self.job.spawn(self._send_notice(vm.key, message), f"notice to {vm.key}")

    def _is_marked(self, vm: Vm) -> bool:
        """True if the Node has its mark, of which the bridge tells the VM's workflow itself."""
        node = self.state.node(vm.report.vm_name) if vm.report else None
        return node is not None and bool(node.marks) and patched("one-notice")

    async def _send_notice(self, key: str, message: PreemptionNotice) -> None:
        await self.job.after_urgent()
        handle = workflow.get_external_workflow_handle(names.vm_workflow_id(key))
        try:
            await handle.signal("preemption_notice", message)
        except FailureError:
            self._closed(key)

    async def release(self, key: str | None, reason: str) -> None:
        """Release a VM, once. It tears itself down and reports when it is gone."""
        vm = self.state.vm(key)
        if vm is None or vm.released or vm.gone:
            return
        await self._send_release(vm.key, reason)
        vm.released = reason

    async def release_each(self, keys: Iterable[str | None], reason: str) -> None:
        """Release several VMs."""
        for key in keys:
            await self.release(key, reason)

    async def _send_release(self, key: str, reason: str) -> None:
        handle = workflow.get_external_workflow_handle(names.vm_workflow_id(key))
        try:
            await handle.signal("release", VmRelease(reason=reason))
        except FailureError:
            self._closed(key)

    async def release_all(self, replica: int, reason: str) -> bool:
        """Release all VMs of a replica and wait until they are gone. False if the run ends before that."""
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
                await self._release_again(left)

    def _is_gone(self, key: str) -> bool:
        vm = self.state.vms.get(key)
        return vm is None or vm.gone

    async def _release_again(self, left: list[Vm]) -> None:
        """Ask each VM that seems to exist for a report, and release it once more: either message may be lost."""
        for vm in left:
            try:
                await self.ensure(vm.key)
            except ActivityError as error:
                workflow.logger.warning("%s: %s", vm.key, error.cause)
            vm.released = None if not vm.gone else vm.released

    # --- the instances

    async def lives(self, replica: Replica) -> bool:
        """Ask the cloud or the cluster, not our memory. True if each machine under this replica still runs."""
        for seat in replica.place.seats:
            if not await self._lives(seat):
                return False
        return True

    async def _lives(self, seat: Seat) -> bool:
        if seat.node is None:
            return False
        vm = self.state.vm(seat.vm_key)
        if vm is not None and vm.report is not None and vm.report.vm_name and vm.report.zone:
            view = await call(act.OBSERVE_VM, self._vm_ref(vm.report), summary=f"does {vm.report.vm_name} still run?")
            return view.exists and view.status == "RUNNING"
        node = act.NodeRef(name=seat.node)
        readiness = await call(act.OBSERVE_NODE, node, summary=f"does {seat.node} still exist?")
        self.state.nodes[node.name] = readiness.view
        return readiness.view.exists and readiness.view.ready and not readiness.view.marks

    def ref_of(self, key: str | None) -> act.VmRef | None:
        """Name the instance of a VM for activities; None if it does not exist yet or no longer runs."""
        vm = self.state.vm(key)
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
        """Take in that a VM's workflow is closed. If it has not reported its end, a person ended it.

        Its machine may then still run, so it is torn down.
        """
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
        """Start a workflow that only tears a VM down. If that fails, the sweep will find the orphan."""
        try:
            await call(act.ADOPT_ORPHAN, self.start_of(vm, found=[found]), summary=f"tear down {found}")
        except ActivityError as error:
            workflow.logger.warning("teardown of %s: %s", vm.key, error.cause)


def _is_later(report: VmReport, known: VmReport) -> bool:
    """True if a report is later than the known one.

    Times are compared first: a workflow that was reset, or one that only tears down, numbers its reports from 1 again.
    """
    if report.at is not None and known.at is not None and report.at != known.at:
        return report.at > known.at
    return report.number > known.number
