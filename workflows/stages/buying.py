"""An instance is created: one try after the other, never two at once."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import names
    from workflows.calls import call, explain
    from workflows.policy.backoff import back_off
    from workflows.stages.machine import Part
    from workflows.vm_state import Try


class Buying(Part):
    """Creating."""

    async def create(self) -> None:
        """Take up the last try, or begin one; an unclear answer is asked for again."""
        if not self.state.tries or self.machine.current.absent:
            self._next_try()
        vm = self.machine.vm_ref()
        candidate = f"{self.start.spec.gcp.machine_type} · {vm.zone} · try {self.state.attempt}"
        try:
            if self.machine.current.operation is None:
                request = act.CreateVm(
                    vm=vm,
                    spec=self.start.spec,
                    machine_type=self.start.spec.gcp.machine_type,
                    ssh_public_key_of=self.start.ssh_key,
                )
                created = await call(act.CREATE_VM, request, summary=candidate)
                self.machine.current.operation = created.name or ""
                self.state.deadline = self.machine.soon(self.timings.create_deadline)
            await self.machine.tell()
            observe = act.ObserveCreate(vm=vm, operation=self.machine.current.operation or None)
            progress = await call(act.OBSERVE_CREATE, observe, summary=f"wait for the create operation · {candidate}")
        except ActivityError as error:
            reason, message = explain(error)
            if reason == "Transient":
                raise  # unclear: the same try again, its request id makes that one VM
            await self._try_failed(reason, message)
            return
        if progress.error:
            await self._try_failed(progress.error, progress.message)
        elif progress.done and progress.vm.exists:
            self.state.view = progress.vm
            self.machine.enter("Booting", seconds=self.timings.boot_deadline, message=f"{vm.name} runs in {vm.zone}")
        elif progress.done:
            await self._try_failed("PreemptedBeforeBoot", f"{vm.name} was gone before it booted")
        elif self.machine.late():
            await self._try_failed("CreateTimeout", f"the creation of {vm.name} was not done in time")
        else:
            await self.machine.until(lambda: False, self.machine.soon(), f"the creation of {vm.name}")

    def _next_try(self) -> None:
        self.state.attempt += 1
        name = names.vm_name(self.start.key, self.state.attempt)
        self.state.tries = [*(old for old in self.state.tries if not old.absent)]
        self.state.tries.append(Try(name=name, zone=self.start.spec.gcp.zone))
        self.state.deadline = None  # counts from the moment in which the cloud has taken it

    async def _try_failed(self, reason: str, message: str) -> None:
        """Confirm that nothing of this try is left, then rest: a next try beside an unclear one makes twins."""
        if reason != "Conflict":  # then the name is somebody else's, and nothing of ours is there
            await self.machine.remove(self.machine.current)
        self.machine.current.absent = True
        self.state.stockouts += 1
        rest = back_off(self.state.stockouts, self.timings.stockout_rest, ceiling=10)
        again = workflow.now() + rest
        self.state.reason = reason
        self.state.message = f"{message}; tried again at {again:%H:%M:%S} UTC"
        await self.machine.tell()
        await self.machine.until(lambda: False, again, f"rest after {reason}")
