"""The stage Creating: one attempt after the other, never two at once, each for the best candidate at its time."""

from dataclasses import replace
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import errors, metrics, names, reasons
    from api.duration import parse_duration
    from api.market import Choice, Choose
    from workflows.policy.candidates import candidates_of

from workflows.common.calls import call, explain, scope_of
from workflows.common.measures import measure
from workflows.vm.machine import Part
from workflows.vm.state import Attempt

NOTHING_FITS = "the pod can run on nothing that the SpotInstanceVM allows now: the condition MachineFits says why"

CREATE_VM = replace(act.CREATE_VM, heartbeat=20.0)
"""The create call with heartbeats, so that one whose worker died is repeated soon."""

MAX_UNCLEAR = 5
"""How many unclear answers to one create call are tolerated: a shortage may hide behind a 503."""


class Creating(Part):
    """The stage Creating."""

    async def create(self) -> None:
        """Continue the last attempt, or begin one. After an unclear answer the same call is repeated."""
        if (not self.state.tries or self.machine.current.absent) and not await self._begin_attempt():
            return
        current, vm = self.machine.current, self.machine.vm_ref()
        about = f"{self.machine.candidate.key} · attempt {self.state.attempt}"
        try:
            if current.operation is None:
                request = act.CreateVm(
                    vm=vm,
                    spec=self.start.spec,
                    candidate=self.machine.candidate,
                    ssh_public_key_of=self.start.ssh_key,
                )
                created = await call(CREATE_VM if self.machine.watches else act.CREATE_VM, request, summary=about)
                current.operation = created.name or ""
                self.state.unclear = 0
                self.state.deadline = self.machine.soon(self.timings.create_deadline)
            await self.machine.report()
            observe = act.ObserveCreate(vm=vm, operation=current.operation or None)
            progress = await self._observe(observe, f"wait for the create operation · {about}")
        except ActivityError as error:
            reason, message = explain(error)
            self.state.unclear += 1
            if reason == errors.TRANSIENT and self.state.unclear < MAX_UNCLEAR:
                raise  # repeated with the same request id, so that it makes one VM at most
            await self._attempt_failed(reason, message, scope_of(error))
            return
        if progress is None:
            return
        if progress.error:
            await self._attempt_failed(progress.error, progress.message, progress.scope)
        elif progress.done and progress.vm.exists:
            self.state.view = progress.vm
            self._measure_wait()
            await self.machine.report_to_market("Bought")
            self.machine.enter("Booting", seconds=self.timings.boot_deadline, message=f"{vm.name} runs in {vm.zone}")
        elif progress.done:
            await self._attempt_failed(errors.NO_CAPACITY, f"{vm.name} was preempted before it booted")
        elif self.machine.late():
            await self._attempt_failed(reasons.CREATE_TIMEOUT, f"the creation of {vm.name} did not finish in time")
        else:
            await self.machine.until(lambda: False, self.machine.soon(), f"the creation of {vm.name}")

    def _measure_wait(self) -> None:
        if self.state.wanted_at is None:
            return
        measure(
            metrics.CAPACITY_WAIT,
            (workflow.now() - self.state.wanted_at).total_seconds(),
            job_namespace=self.start.namespace,
            provisioning=self.machine.candidate.provisioning,
            reason=self.state.reason or "none",
        )

    async def _observe(self, observe: act.ObserveCreate, summary: str) -> act.CreateProgress | None:
        """Watch the create operation; None if the wait for it ended first."""
        if not self.machine.watches:
            return await call(act.OBSERVE_CREATE, observe, summary=summary)
        left = self.machine.left() if self.state.deadline else self.timings.create_deadline
        return await self.machine.watch(act.OBSERVE_CREATE, observe, lambda: False, seconds=left, summary=summary)

    async def _begin_attempt(self) -> bool:
        """Record the next attempt, for the candidate that the market chooses. False if all were in cooldown."""
        choice = await self._ask_market()
        if choice.candidate is None:
            await self._await_candidate(choice)
            return False
        self.state.attempt += 1
        self.state.tries = [old for old in self.state.tries if not old.absent]
        self.state.tries.append(
            Attempt(
                name=names.vm_name(self.start.key, self.state.attempt),
                zone=choice.candidate.zone,
                candidate=choice.candidate,
                price=choice.price,
                why=choice.reason,
            )
        )
        self.state.unclear = 0
        self.state.deadline = None  # it counts from the time at which the cloud accepted the call
        return True

    async def _ask_market(self) -> Choice:
        start, wanted = self.start, self.state.request
        allowed = candidates_of(
            start.spec, on_demand=self._on_demand_allowed(), same_gpu=wanted.same_gpu, image_gpu=wanted.image_gpu
        )
        here = [each for each in allowed if wanted.zone in (None, each.zone)]
        fitting = [each for each in here if each.label not in wanted.unfit]
        if not fitting:
            return Choice(candidate=None, reason=NOTHING_FITS, blocked_by=errors.UNSUPPORTED)
        question = Choose(
            asker=start.key,
            replica=start.replica,
            candidates=fitting,
            avoid_zones=wanted.avoid_zones,
            namespace=start.namespace,
            credentials=start.credentials,
        )
        request = act.AskMarket(project=start.spec.gcp.project, timings=self.timings, question=question)
        return await call(act.ASK_MARKET, request, summary=f"what to buy for replica {start.replica}?")

    def _on_demand_allowed(self) -> bool:
        """True if the job allows on-demand and no spot VM was available for as long as the spec says."""
        fallback, since = self.start.spec.on_demand_fallback, self.state.wanted_at
        if fallback is None or since is None or not self.state.request.on_demand:
            return False
        return workflow.now() >= since + parse_duration(fallback.after)

    async def _await_candidate(self, choice: Choice) -> None:
        """Report why nothing is available, and wait until a cooldown ends or on-demand is allowed."""
        self.state.reason, self.state.message = choice.blocked_by, choice.reason
        await self.machine.report()
        again = choice.until or self.machine.soon(self.timings.stockout_rest)
        fallback, since, allowed = self.start.spec.on_demand_fallback, self.state.wanted_at, self._on_demand_allowed()
        if fallback and since and not allowed and self.state.request.on_demand:
            again = min(again, since + parse_duration(fallback.after))
        await self.machine.until(
            lambda: self._on_demand_allowed() != allowed, again + timedelta(seconds=0.1), choice.reason
        )

    async def _attempt_failed(self, reason: str, message: str, scope: str = "") -> None:
        """Confirm that nothing of this attempt is left: with the next one it would make two VMs."""
        if reason != errors.CONFLICT:  # in a conflict the name is somebody else's, and nothing of ours exists
            if not await self.machine.remove(self.machine.current):
                return
            received = await self.machine.report_to_market(reason, message=message, scope=scope)
            if not received:  # the market would offer the same again at once
                await self.machine.until(
                    lambda: False, self.machine.soon(self.timings.stockout_rest), f"the cooldown after {reason}"
                )
        self.machine.current.absent = True
        self.state.reason, self.state.message = reason, message
        await self.machine.report()
