"""The phases from Pending to NodeReady: a replica takes a free GPU of the cluster, or a VM is bought for it."""

from datetime import datetime
from typing import get_args

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import conditions, events, reasons
    from api.messages import IN_VAIN, JOINING, Stage, VmReport
    from api.node_conditions import BROKEN

from api.phases import Phase
from workflows.common.calls import call
from workflows.common.patches import patched
from workflows.job.machines.fit import MachineFit
from workflows.job.machines.pod_check import PodCheck
from workflows.job.replica.gathering import Gathering
from workflows.job.replica.life import Life, Part
from workflows.job.replica.queued import Queued


class Placement(Part):
    """The phases Pending, Preempted, Provisioning, Joining and NodeReady."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.queue = Queued(life)
        self.gathering = Gathering(life)
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
        self.gathering.resize()
        if self.me.place.is_gang and self.me.place.settled:  # spare machines have replaced those that went
            self._all_ready()
            return
        if self.me.place.bought:  # a gang takes the GPUs of the cluster as a whole, or not at all
            if self.gathering.goes_on_smaller():
                return
            if await self._fits() and await self._pod_is_admitted():
                self._buy(self.me.message)
            return
        request = self.nodes.search_for(self.me, self.me.place.missing)
        capacity = await call(act.FIND_CAPACITY, request, summary=f"replica {self.me.index}: is a GPU free?")
        if self.life.halted():
            return
        nodes = [*self.me.place.free_nodes, *capacity.nodes] if capacity.nodes else []
        if not nodes and self.gathering.goes_on_smaller():
            return
        self.me.place.leave_free_nodes()
        if first_in_queue:
            self.me.place.candidates = nodes
            self.life.enter("Restoring", "its Job has to be admitted first")
            return
        if nodes:
            self.me.place.candidates = nodes
            self.life.enter("NodeReady", f"room on {', '.join(nodes[:3])}")
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

    def _buy(self, why: str) -> None:
        self.gathering.buy()
        self.life.enter("Provisioning", why or "no free GPU in the cluster")
        self.job.event(events.BUYING_VM, f"replica {self.me.index}: {self.me.message}")

    async def await_machine(self) -> None:
        """Ensure the VMs and wait for their Nodes. A VM that is lost meanwhile is replaced by the next."""
        place = self.me.place
        # A gang may have lost the machine for which it waited, and keep others: then nothing is awaited until the next
        # one is bought below.
        ended = await self.gathering.ensure(place.awaited or ([] if place.is_gang else [place.first.vm_key or ""]))
        if ended is not None:
            self._machine_failed(ended, "the VM's workflow has ended")
            return
        while not self.job.parking:
            if await self._is_over():
                return
            if keys := self.gathering.buy() if place.missing else []:
                await self.gathering.ensure(keys)
                continue
            self._mirror()
            if self.gathering.goes_on_smaller():  # perhaps the cloud has none after all
                return
            numbers = {key: self.state.vms[key].reports for key in place.awaited}
            changed = await self.life.until(
                lambda seen=numbers: (  # type: ignore[misc]
                    any(self._is_news(key, number) for key, number in seen.items())
                    or (place.is_gang and self.life.machine_lost())
                    or self.queue.overtaken
                ),
                self._next_check(),
                f"replica {self.me.index}: {self.me.message or 'the VM'}",
            )
            if not changed:
                await self.gathering.ensure(place.awaited)
                if self.me.run.live:
                    await self.life.observe("is it held again?")

    async def _is_over(self) -> bool:
        """Act on VMs that have joined, failed or became outdated. True if the wait for them is over."""
        place = self.me.place
        for key in place.vm_keys:
            vm = self.state.vms.get(key)
            report = vm.report if vm else None
            if report is not None and self.nodes.failed(key):
                self.machines.warn(key, "its node had a notice")
                self._machine_failed(key, f"{report.reason}: {report.message}", report)
                return True
            if vm is not None and vm.ready and report is not None and key in place.awaited:
                place.join(key, report.node_name)
        if place.is_gang and (lost := self.nodes.lost_members(place)):
            nodes = ", ".join(seat.node or "a node" for seat in place.of_members(lost))
            await self.machines.release_each([seat.vm_key for seat in place.of_members(lost)], "Silent")
            place.leave(lost)
            self.job.event(events.VM_LOST, f"replica {self.me.index}: {nodes}: silent or gone", warning=True)
            self.life.look_for_place("a machine of the gang went while others were bought")
            return True
        if place.settled:
            self._all_ready()
            return True
        for key in place.awaited:
            if self.state.vms[key].superseded:
                await self._release_outdated(key)
                return True
        if self.queue.overtaken:
            await self.queue.turn_back()
            return True
        return await self.gathering.gives_up()

    def _all_ready(self) -> None:
        place = self.me.place
        if place.gathers_since is not None:
            place.gathered_seconds = (workflow.now() - place.gathers_since).total_seconds()
        place.gathers_since, self.me.retry.failures = None, 0
        if not self.life.counts_in_vain:
            self.me.retry.in_vain = 0
        self.job.condition(conditions.CAPACITY_AVAILABLE, True, reasons.PROVISIONED)
        self.life.enter("NodeReady", f"{place.names} {'are' if place.is_gang else 'is'} Ready")

    def _is_news(self, key: str, number: int) -> bool:
        """True if a VM has failed, is outdated, or has reported since its report of that ``number``."""
        vm = self.state.vms.get(key)
        news = vm.superseded or vm.reports != number if vm is not None else number > 0
        return self.nodes.failed(key) or news

    def _next_check(self) -> datetime:
        check, overdue_at = self.job.next_check(), self.gathering.overdue_at
        return check if overdue_at is None else min(check, max(overdue_at, self.job.after(1)))

    def _joins(self, report: VmReport) -> bool:
        """True if the machine exists and is on its way to a Ready Node. Before this patch its boot did not count."""
        return report.stage in JOINING and (report.stage != "Booting" or patched("watched-steps"))

    def _mirror(self) -> None:
        """Show the VM's stage as the replica's phase, and what delays it in the job's condition.

        Of a gang's VMs that is the one that is least far.
        """
        reports = [vm.report for vm in self.state.vms_under(self.me) if vm.report and not vm.ready]
        report = min(reports, key=lambda report: get_args(Stage).index(report.stage), default=None)
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
