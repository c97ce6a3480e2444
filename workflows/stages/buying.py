"""An instance is created: one try after the other, never two at once, each for the best candidate of its moment."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import errors, names
    from api.duration import parse_duration
    from api.market import Choice, Choose
    from workflows.policy.candidates import candidates_of

from workflows.calls import call, explain, scope_of
from workflows.stages.machine import Part
from workflows.vm_state import Try

NOTHING_FITS = "the pod can run on nothing that the SpotInstanceVM allows now: the condition MachineFits says why"
MAX_UNCLEAR = 5  # answers to one create call: a shortage may hide behind a 503


class Buying(Part):
    """Creating."""

    async def create(self) -> None:
        """Take up the last try, or begin one; an unclear answer is asked for again."""
        if (not self.state.tries or self.machine.current.absent) and not await self._begin_try():
            return
        current, vm = self.machine.current, self.machine.vm_ref()
        about = f"{self.machine.candidate.key} · try {self.state.attempt}"
        try:
            if current.operation is None:
                request = act.CreateVm(
                    vm=vm,
                    spec=self.start.spec,
                    candidate=self.machine.candidate,
                    ssh_public_key_of=self.start.ssh_key,
                )
                created = await call(act.CREATE_VM, request, summary=about)
                current.operation = created.name or ""
                self.state.unclear = 0
                self.state.deadline = self.machine.soon(self.timings.create_deadline)
            await self.machine.tell()
            observe = act.ObserveCreate(vm=vm, operation=current.operation or None)
            progress = await call(act.OBSERVE_CREATE, observe, summary=f"wait for the create operation · {about}")
        except ActivityError as error:
            reason, message = explain(error)
            self.state.unclear += 1
            if reason == "Transient" and self.state.unclear < MAX_UNCLEAR:
                raise  # unclear: the same try again, its request id makes that one VM
            await self._try_failed(reason, message, scope_of(error))
            return
        if progress.error:
            await self._try_failed(progress.error, progress.message, progress.scope)
        elif progress.done and progress.vm.exists:
            self.state.view = progress.vm
            await self.machine.tell_market("Bought")
            self.machine.enter("Booting", seconds=self.timings.boot_deadline, message=f"{vm.name} runs in {vm.zone}")
        elif progress.done:
            await self._try_failed(errors.NO_CAPACITY, f"{vm.name} was taken back before it booted")
        elif self.machine.late():
            await self._try_failed("CreateTimeout", f"the creation of {vm.name} was not done in time")
        else:
            await self.machine.until(lambda: False, self.machine.soon(), f"the creation of {vm.name}")

    async def _begin_try(self) -> bool:
        """Record the next try, for the candidate that the market chooses; False after a wait, where all rest."""
        choice = await self._ask_market()
        if choice.candidate is None:
            await self._rest(choice)
            return False
        self.state.attempt += 1
        self.state.tries = [old for old in self.state.tries if not old.absent]
        self.state.tries.append(
            Try(
                name=names.vm_name(self.start.key, self.state.attempt),
                zone=choice.candidate.zone,
                candidate=choice.candidate,
                price=choice.price,
                why=choice.reason,
            )
        )
        self.state.unclear = 0
        self.state.deadline = None  # counts from the moment in which the cloud has taken it
        return True

    async def _ask_market(self) -> Choice:
        start, wish = self.start, self.state.wish
        allowed = candidates_of(
            start.spec, on_demand=self._on_demand_allowed(), same_gpu=wish.same_gpu, image_gpu=wish.image_gpu
        )
        fitting = [each for each in allowed if each.label not in wish.unfit]
        if not fitting:
            return Choice(candidate=None, reason=NOTHING_FITS, blocked_by=errors.UNSUPPORTED)
        question = Choose(
            asker=start.key,
            replica=start.replica,
            candidates=fitting,
            avoid_zones=wish.avoid_zones,
            namespace=start.namespace,
            credentials=start.credentials,
        )
        request = act.AskMarket(project=start.spec.gcp.project, timings=self.timings, question=question)
        return await call(act.ASK_MARKET, request, summary=f"what to buy for replica {start.replica}?")

    def _on_demand_allowed(self) -> bool:
        """The job grants it, and spot was not to be had for as long as the spec says."""
        fallback, since = self.start.spec.on_demand_fallback, self.state.wanted_at
        if fallback is None or since is None or not self.state.wish.on_demand:
            return False
        return workflow.now() >= since + parse_duration(fallback.after)

    async def _rest(self, choice: Choice) -> None:
        """Nothing can be had: say why and since when; until something ends its rest, or on-demand is allowed."""
        self.state.reason, self.state.message = choice.blocked_by, choice.reason
        await self.machine.tell()
        again = choice.until or self.machine.soon(self.timings.stockout_rest)
        fallback, since, allowed = self.start.spec.on_demand_fallback, self.state.wanted_at, self._on_demand_allowed()
        if fallback and since and not allowed and self.state.wish.on_demand:
            again = min(again, since + parse_duration(fallback.after))
        await self.machine.until(
            lambda: self._on_demand_allowed() != allowed, again + timedelta(seconds=0.1), choice.reason
        )

    async def _try_failed(self, reason: str, message: str, scope: str = "") -> None:
        """Confirm that nothing of this try is left before the next: one beside an unclear one makes twins."""
        if reason != errors.CONFLICT:  # then the name is somebody else's, and nothing of ours is there
            if not await self.machine.remove(self.machine.current):
                return
            told = await self.machine.tell_market(reason, message=message, scope=scope)
            if not told:  # nobody else keeps us from trying the same again at once
                await self.machine.until(
                    lambda: False, self.machine.soon(self.timings.stockout_rest), f"rest after {reason}"
                )
        self.machine.current.absent = True
        self.state.reason, self.state.message = reason, message
        await self.machine.tell()
