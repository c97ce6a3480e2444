"""The last look round: what exists under this job's id, known to this run or not, goes."""

import itertools

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.names import checkpoint_number, vm_key_of
    from workflows.policy.backoff import back_off

from workflows.calls import call
from workflows.history import is_long
from workflows.job import Job
from workflows.machines import Machines
from workflows.reporting import Reporting
from workflows.state import Vm

POLL_SECONDS = 3.0
PATIENCE_SECONDS = 60.0


class Teardown:
    """After the replicas have let go of what they knew: take stock by label, and clear it."""

    def __init__(self, job: Job, machines: Machines, reporting: Reporting) -> None:
        self.job = job
        self.state = job.state
        self.machines = machines
        self.reporting = reporting

    async def run(self) -> bool:
        """Until the stock is empty; a completed job keeps its winner's Job and its checkpoints.

        False where the history has become long before that: taken up again by the next run.

        Raises:
            ActivityError: something did not answer; taken up again by the caller.
        """
        if self.state.shutdown is None:
            return True
        deadline = self.job.after(PATIENCE_SECONDS)
        for rounds in itertools.count(1):
            stock = await call(act.TAKE_STOCK, self.job.ref, summary="what is left under this job's id?")
            left = [*stock.jobs, *stock.checkpoints, *stock.nodes, *stock.machines]
            if not left and not stock.replicas:
                self.job.condition("TornDown", True, "NothingLeft")
                return True
            self.job.condition("TornDown", False, "StillThere", f"waits for {', '.join(left[:5])} to be gone")
            await self.reporting.flush()
            forced = workflow.now() >= deadline
            await self._clear(stock, forced=forced)
            if is_long():
                break
            await workflow.sleep(back_off(rounds, POLL_SECONDS, ceiling=20))
        return False

    async def _clear(self, stock: act.Stock, *, forced: bool) -> None:
        for replica, incarnation in stock.replicas:
            ref = act.ReplicaRef(job=self.job.ref, replica=replica, incarnation=incarnation)
            stop = act.StopReplica(ref=ref, delete_job=True, force=forced)
            await call(act.STOP_REPLICA, stop, summary=f"delete the Job of {replica}.{incarnation}")
        for name in stock.checkpoints:
            number = checkpoint_number(name)
            if number is None:
                continue
            ref_ = act.CheckpointRef(job=self.job.ref, number=number)
            await call(act.DELETE_CHECKPOINT, ref_, summary=f"delete CheckpointBackup {name}")
        for machine in stock.machines:
            await self._tear_down_vm(machine)

    async def _tear_down_vm(self, machine: str) -> None:
        """A VM that this run did not buy: its own workflow takes it down, or one in teardown begins."""
        key = vm_key_of(machine.partition("/")[2])
        known = self.state.vms.get(key or "")
        if key is None or (known is not None and not known.gone):
            return
        vm = Vm(key=key, replica=-1)
        if self.state.vm_spec is not None:
            start = self.machines.start_of(vm, found=[machine])
            await call(act.ADOPT_ORPHAN, start, summary=f"tear down {machine}")
        self.state.vms[key] = vm  # not before: what could not be adopted is tried again
        await self.machines.release(key, "Deleted")
