"""The teardown: everything that exists under this job's id is removed, whether this run knows it or not."""

import itertools

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import conditions, reasons
    from api.names import checkpoint_number, vm_key_of
    from workflows.policy.backoff import back_off

from workflows.common.calls import call
from workflows.common.continue_as_new import is_long
from workflows.job.core.job import Job
from workflows.job.machines.machines import Machines
from workflows.job.state.vm import Vm
from workflows.job.status_writer import StatusWriter

POLL_SECONDS = 3.0

PATIENCE_SECONDS = 60.0
"""How long pods may take to end by themselves before they are deleted by force."""


class Teardown:
    """Finds by label what the replicas have left of one job, and removes it."""

    def __init__(self, job: Job, machines: Machines, status_writer: StatusWriter) -> None:
        self.job = job
        self.state = job.state
        self.machines = machines
        self.status_writer = status_writer

    async def run(self) -> bool:
        """Remove everything until nothing is left. A completed job keeps its winner's Job and its checkpoints.

        Returns:
            True if nothing is left; False if the history is long and the next run has to go on.

        Raises:
            ActivityError: Something did not answer. The caller retries.
        """
        if self.state.shutdown is None:
            return True
        deadline = self.job.after(PATIENCE_SECONDS)
        for rounds in itertools.count(1):
            stock = await call(act.TAKE_STOCK, self.job.ref, summary="what is left under this job's id?")
            left = [*stock.jobs, *stock.checkpoints, *stock.nodes, *stock.machines]
            if not left and not stock.replicas:
                self.job.condition(conditions.TORN_DOWN, True, reasons.NOTHING_LEFT)
                return True
            self.job.condition(
                conditions.TORN_DOWN, False, reasons.STILL_THERE, f"waiting for {', '.join(left[:5])} to be gone"
            )
            await self.status_writer.flush()
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
        """Release a VM that this run did not buy: its own workflow tears it down, or one is started to do so."""
        key = vm_key_of(machine.partition("/")[2])
        known = self.state.vm(key)
        if key is None or (known is not None and not known.gone):
            return
        vm = Vm(key=key, replica=-1)
        if self.state.vm_spec is not None:
            start = self.machines.start_of(vm, found=[machine])
            await call(act.ADOPT_ORPHAN, start, summary=f"tear down {machine}")
        self.state.vms[key] = vm  # only now, so that an adoption that failed is retried
        await self.machines.release(key, "Deleted")
