"""A place to run: a free GPU of the cluster, else a VM that is bought and joins."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.common import MACHINE_FITS
    from api.messages import IN_VAIN, VmReport
    from api.names import vm_key
    from api.node_conditions import BROKEN
    from workflows.policy.backoff import SOON, back_off

from workflows.calls import call
from workflows.machine_fit import MachineFit
from workflows.phases.life import Life, Part
from workflows.phases.queued import Queued
from workflows.pod_check import PodCheck
from workflows.state import Phase


class Seeking(Part):
    """Pending, Preempted, Provisioning, Joining, NodeReady."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.queue = Queued(life)
        self.fit = MachineFit(life.job)
        self.pod_check = PodCheck(life.job, life.checkpointing)

    async def seek(self) -> None:
        """A free GPU of the cluster before any VM is bought."""
        # Beside the search: a dying node may hold its log back until it is dead.
        self.job.spawn(self._save_old_logs(), f"logs of replica {self.me.index}")
        first_in_queue = self.queue.comes_first
        if self.me.reserved and not first_in_queue:
            self._take_reserved(self.me.reserved)
            return
        if self.me.live:
            if await self._fits():
                self._buy("its Job was let in")
            return
        request = act.FindCapacity(
            job=self.job.ref, job_template=self.job.spec.job_template, avoid=self._nodes_to_avoid()
        )
        capacity = await call(act.FIND_CAPACITY, request, summary=f"replica {self.me.index}: a free GPU?")
        if self.life.halted():
            return
        if first_in_queue:
            self.me.candidates = capacity.nodes
            self.life.enter("Restoring", "its Job has to be let in first")
            return
        if capacity.nodes:
            self.me.candidates = capacity.nodes
            self.life.enter("NodeReady", f"room on {', '.join(capacity.nodes[:3])}")
            return
        if await self._fits() and await self._pod_is_admitted():
            self._buy(capacity.reason)

    async def _fits(self) -> bool:
        """True if some machine fits; else wait for an edit, and look for a free GPU from time to time."""
        if await self.fit.buys():
            return not self.life.halted()
        vm_spec, template = self.state.vm_spec, self.job.spec.job_template
        self.life.say(f"no VM is bought: {self.state.conditions[MACHINE_FITS].message}")
        await self.life.until(
            lambda: self.state.vm_spec != vm_spec or self.job.spec.job_template != template,
            self.job.after(self.state.timings.resync),
            "a machine that fits",
        )
        return False

    async def _pod_is_admitted(self) -> bool:
        """Ask before money is spent; a refusal buys nothing, is told, and is looked at again within two minutes."""
        verdict = await self.pod_check.verdict(self.me)
        if self.life.halted():
            return False
        if not verdict.admitted:
            self.me.refusals += 1
            self.me.retry_at = workflow.now() + back_off(self.me.refusals, self.state.timings.retry, ceiling=SOON)
            message = f"no VM is bought: {verdict.message}"
            self.life.say(message)
            self.life.starts.fails(self.me, verdict.reason, message)
        elif self.me.refusals:
            self.me.refusals = 0
            self.life.starts.runs(self.me)
        return verdict.admitted

    def _take_reserved(self, key: str) -> None:
        """A spot VM is there for it, or on its way."""
        self.me.vm_key, self.me.reserved, self.me.return_checkpoint, self.me.moving = key, None, None, False
        self.me.candidates = []
        if key in self.state.vms:
            self.state.vms[key].spot_only = False  # who has lost its machine takes what there is
        self.life.enter("Provisioning", "the spot VM that was sought for it")

    async def _save_old_logs(self) -> None:
        """While the dying node still answers."""
        for old in [*self.me.recovery.olds] if self.me.recovery else []:
            if not old.logs_saved:
                await self.life.save_logs(old.incarnation)
                old.logs_saved = True

    def _nodes_to_avoid(self) -> list[str]:
        others = [replica.node for replica in self.state.replicas.values() if replica is not self.me]
        noticed = list(self.state.notices)
        shunned = [node for node, until in self.me.shunned.items() if until > workflow.now()]
        return sorted({node for node in [*others, *noticed, *shunned, *self.me.avoid] if node})

    def _buy(self, why: str) -> None:
        self.me.place += 1
        self.me.vm_key = vm_key(self.job.start.job_id, self.me.index, self.me.place)
        self.me.candidates = []
        self.machines.wanted(self.me.vm_key, self.me.index)
        self.life.enter("Provisioning", why or "no free GPU in the cluster")
        self.job.event("BuyingVM", f"replica {self.me.index}: {self.me.message}")

    async def await_machine(self) -> None:
        """Ensure the VM and wait for its Node; a VM that is lost on the way is replaced by the next."""
        key = self.me.vm_key or ""
        vm = self.state.vms.get(key)
        if vm is None or not await self.machines.ensure(key):
            self._machine_failed("the VM's life is over")
            return
        while not self.job.parking:
            report = vm.report
            if report is not None and self.nodes.failed(key):
                self.machines.warn(key, "its node was announced to go")
                self._machine_failed(f"{report.reason}: {report.message}", report)
                return
            if report is not None and report.stage == "Ready":
                self.me.node, self.me.failures = report.node_name, 0
                if not self.life.counts_in_vain:
                    self.me.in_vain = 0
                self.job.condition("CapacityAvailable", True, "Provisioned")
                self.life.enter("NodeReady", f"{report.node_name} is Ready")
                return
            if vm.outdated and vm.sought:
                await self._buy_by_the_edited(key)
                return
            if self.queue.overtaken:
                await self.queue.turn_back()
                return
            self._mirror()
            number = report.number if report else 0
            changed = await self.life.until(
                lambda seen=number: (  # type: ignore[misc]
                    self.nodes.failed(key)
                    or (vm.outdated and vm.sought)
                    or (vm.report is not None and vm.report.number != seen)
                    or self.queue.overtaken
                ),
                self.job.after(self.state.timings.resync),
                f"replica {self.me.index}: {self.me.message or 'the VM'}",
            )
            if not changed:
                await self.machines.ensure(key)
                if self.me.live:
                    await self.life.observe("is it held again?")

    def _mirror(self) -> None:
        """The VM's stage is the replica's phase, and its trouble the job's condition."""
        vm = self.state.vms.get(self.me.vm_key or "")
        report = vm.report if vm else None
        if report is None:
            return
        phase: Phase = "Joining" if report.stage in {"Joining", "Registering"} else "Provisioning"
        text = f"{report.reason}: {report.message}" if report.reason else report.message
        if (phase, text) != (self.me.phase, self.me.message):
            self.life.enter(phase, text)
        if report.stage == "Creating" and report.reason:
            self.job.condition("CapacityAvailable", False, report.reason, report.message)

    async def _buy_by_the_edited(self, key: str) -> None:
        """Let go of a VM that is still sought by the old spec: the next one is bought by the new one, at once."""
        await self.machines.release(key, "SpecChanged")
        self.me.vm_key, self.me.failures, self.me.in_vain = None, 0, 0
        self.life.seek_again("the SpotInstanceVM was edited")

    def _machine_failed(self, message: str, report: VmReport | None = None) -> None:
        self.me.vm_key = None
        self.job.event("VMLost", f"replica {self.me.index}: {message}", warning=True)
        in_vain = report is not None and (report.reason in IN_VAIN or self._broke(report))
        if report is not None and in_vain:
            self.job.condition("CapacityAvailable", False, report.reason, message)
        self.life.back_off(message, in_vain=in_vain)
        self.life.seek_again(self.me.message)

    def _broke(self, report: VmReport) -> bool:
        """True if its Node is said to be broken before it took a replica."""
        notice = self.state.notices.get(report.vm_name or "")
        source = notice.source if notice else report.reason
        return source in BROKEN and workflow.patched("broken-machines")

    async def node_ready(self) -> None:
        """Go on to what it starts from, or let a Job that exists already onto the machine."""
        if self.me.live:
            await self.queue.let_onto_machine()
            return
        if self.me.recovery and self.me.recovery.node_ready_at is None:
            self.me.recovery.node_ready_at = workflow.now()
        self.life.enter("Restoring")
