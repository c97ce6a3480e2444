"""The phases from Pending to NodeReady: a replica takes a free GPU of the cluster, or a VM is bought for it."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import conditions, events, reasons
    from api.messages import IN_VAIN, JOINING, VmReport
    from api.node_conditions import BROKEN

from api.phases import Phase
from workflows.common.calls import call
from workflows.common.patches import patched
from workflows.job.machines.fit import MachineFit
from workflows.job.machines.pod_check import PodCheck
from workflows.job.replica.life import Life, Part
from workflows.job.replica.queued import Queued


class Placement(Part):
    """The phases Pending, Preempted, Provisioning, Joining and NodeReady."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.queue = Queued(life)
        self.fit = MachineFit(life.job)
        self.pod_check = PodCheck(life.job, life.checkpoints)

    async def look(self) -> None:
        """Look for a free GPU of the cluster; if there is none, buy a VM."""
        await self.job.after_urgent()
        # Beside everything else: a dying node may not give out its log until it is dead.
        self.job.spawn(self._save_old_logs(), f"logs of replica {self.me.index}")
        first_in_queue = self.queue.comes_first
        if self.me.spot_return.reserved and not first_in_queue:
            self._take_reserved(self.me.spot_return.reserved)
            return
        if self.me.run.live:
            if await self._fits():
                self._buy("its Job was admitted")
            return
        request = act.FindCapacity(
            job=self.job.ref, job_template=self.job.spec.job_template, avoid=self._nodes_to_avoid()
        )
        capacity = await call(act.FIND_CAPACITY, request, summary=f"replica {self.me.index}: is a GPU free?")
        if self.life.halted():
            return
        if first_in_queue:
            self.me.place.candidates = capacity.nodes
            self.life.enter("Restoring", "its Job has to be admitted first")
            return
        if capacity.nodes:
            self.me.place.candidates = capacity.nodes
            self.life.enter("NodeReady", f"room on {', '.join(capacity.nodes[:3])}")
            return
        if await self._fits() and await self._pod_is_admitted():
            self._buy(capacity.reason)

    async def _fits(self) -> bool:
        """True if some machine fits. If none does, wait for an edit, and look for a free GPU from time to time."""
        if await self.fit.check():
            return not self.life.halted()
        vm_spec, template = self.state.vm_spec, self.job.spec.job_template
        self.life.say(f"no VM is bought: {self.state.conditions[conditions.MACHINE_FITS].message}")
        await self.life.until(
            lambda: self.state.vm_spec != vm_spec or self.job.spec.job_template != template,
            self.job.next_check(),
            "an edit by which a machine fits",
        )
        return False

    async def _pod_is_admitted(self) -> bool:
        """Check before money is spent. True if the pod would be admitted; a refusal is checked again soon."""
        verdict = await self.pod_check.verdict(self.me)
        if self.life.halted():
            return False
        if not verdict.admitted:
            self.me.retry.after_refusal(workflow.now(), self.state.timings.retry)
            message = f"no VM is bought: {verdict.message}"
            self.life.say(message)
            self.life.pod_starts.fails(self.me, verdict.reason, message)
        elif self.me.retry.refusals:
            self.me.retry.refusals = 0
            self.life.pod_starts.runs(self.me)
        return verdict.admitted

    def _take_reserved(self, key: str) -> None:
        """Use the spot VM that is reserved for the replica, even if it is still being bought."""
        self.me.place.buy(key)
        self.me.spot_return.end()
        if key in self.state.vms:
            self.state.vms[key].spot_only = False  # the replica has lost its machine, so on-demand will do as well
        self.life.enter("Provisioning", "using the spot VM that was reserved for it")

    async def _save_old_logs(self) -> None:
        """Save the logs of old incarnations while the dying node still answers."""
        for old in [*self.me.recovery.olds] if self.me.recovery else []:
            if not old.logs_saved:
                await self.life.save_logs(old.incarnation)
                old.logs_saved = True

    def _nodes_to_avoid(self) -> list[str]:
        others = [node for one in self.state.replicas.values() if one is not self.me for node in one.place.nodes]
        noticed = list(self.state.notices)
        shunned = [node for node, until in self.me.place.shunned.items() if until > workflow.now()]
        return sorted({*others, *noticed, *shunned, *self.me.place.avoid})

    def _buy(self, why: str) -> None:
        self.me.place.buy(self.machines.add(self.me))
        self.life.enter("Provisioning", why or "no free GPU in the cluster")
        self.job.event(events.BUYING_VM, f"replica {self.me.index}: {self.me.message}")

    async def await_machine(self) -> None:
        """Ensure the VM and wait for its Node. A VM that is lost meanwhile is replaced by the next."""
        key = self.me.place.only.vm_key or ""
        vm = self.state.vms.get(key)
        if vm is None or not await self.machines.ensure(key):
            self._machine_failed(key, "the VM's workflow has ended")
            return
        while not self.job.parking:
            report = vm.report
            if report is not None and self.nodes.failed(key):
                self.machines.warn(key, "its node had a notice")
                self._machine_failed(key, f"{report.reason}: {report.message}", report)
                return
            if report is not None and report.stage == "Ready":
                self.me.place.join(key, report.node_name)
                self.me.retry.failures = 0
                if not self.life.counts_in_vain:
                    self.me.retry.in_vain = 0
                self.job.condition(conditions.CAPACITY_AVAILABLE, True, reasons.PROVISIONED)
                self.life.enter("NodeReady", f"{report.node_name} is Ready")
                return
            if vm.outdated and vm.to_be_bought:
                await self._release_outdated(key)
                return
            if self.queue.overtaken:
                await self.queue.turn_back()
                return
            self._mirror()
            number = report.number if report else 0
            changed = await self.life.until(
                lambda seen=number: (  # type: ignore[misc]
                    self.nodes.failed(key)
                    or (vm.outdated and vm.to_be_bought)
                    or (vm.report is not None and vm.report.number != seen)
                    or self.queue.overtaken
                ),
                self.job.next_check(),
                f"replica {self.me.index}: {self.me.message or 'the VM'}",
            )
            if not changed:
                await self.machines.ensure(key)
                if self.me.run.live:
                    await self.life.observe("is it held again?")

    def _joins(self, report: VmReport) -> bool:
        """True if the machine exists and is on its way to a Ready Node. Before this patch its boot did not count."""
        return report.stage in JOINING and (report.stage != "Booting" or patched("watched-steps"))

    def _mirror(self) -> None:
        """Show the VM's stage as the replica's phase, and what delays it in the job's condition."""
        vm = self.state.only_vm(self.me)
        report = vm.report if vm else None
        if report is None:
            return
        phase: Phase = "Joining" if self._joins(report) else "Provisioning"
        text = f"{report.reason}: {report.message}" if report.reason else report.message
        if (phase, text) != (self.me.phase, self.me.message):
            self.life.enter(phase, text)
        if report.stage == "Creating" and report.reason:
            self.job.condition(conditions.CAPACITY_AVAILABLE, False, report.reason, report.message)

    async def _release_outdated(self, key: str) -> None:
        """Release a VM that is still to be bought by the old spec. The next one is bought by the new spec at once."""
        await self.machines.release(key, "SpecChanged")
        self.me.place.lose(key)
        self.me.retry.failures = self.me.retry.in_vain = 0
        self.life.look_for_place("the SpotInstanceVM was edited")

    def _machine_failed(self, key: str, message: str, report: VmReport | None = None) -> None:
        self.me.place.lose(key)
        self.job.event(events.VM_LOST, f"replica {self.me.index}: {message}", warning=True)
        in_vain = report is not None and (report.reason in IN_VAIN or self._broke(report))
        if report is not None and in_vain:
            self.job.condition(conditions.CAPACITY_AVAILABLE, False, report.reason, message)
        self.life.back_off(message, in_vain=in_vain)
        self.life.look_for_place(self.me.message)

    def _broke(self, report: VmReport) -> bool:
        """True if its Node was reported as broken before it took a replica."""
        notice = self.state.notice(report.vm_name)
        source = notice.source if notice else report.reason
        return source in BROKEN and patched("broken-machines")

    async def node_ready(self) -> None:
        """Go on to Restoring, or admit a Job that already exists to the machine."""
        if self.me.run.live:
            await self.queue.admit_to_machine()
            return
        if self.me.recovery and self.me.recovery.node_ready_at is None:
            self.me.recovery.node_ready_at = workflow.now()
        self.life.enter("Restoring")
