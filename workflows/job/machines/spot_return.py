"""The spot return: replicas on on-demand VMs move back to spot with a checkpoint, so that no training is lost.

A spot VM is bought beside the on-demand VM, however long that takes. Once it is Ready, the replica is checkpointed and
continues on it. Only then is the on-demand VM released. What a gang does is in ``gang_return.py``.
"""

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from api import events, reasons
    from workflows.job.checkpoints.policy.restore import differences
    from workflows.job.machines.policy.spot_return import Step, next_step, return_time

from workflows.common.calls import explain
from workflows.job.checkpoints.checkpoints import Checkpoints
from workflows.job.core.job import Job
from workflows.job.machines.machines import Machines
from workflows.job.machines.pod_check import PodCheck
from workflows.job.state.replica import Replica


class SpotReturns:
    """Carries out the spot returns of one job's replicas."""

    def __init__(self, job: Job, checkpoints: Checkpoints, machines: Machines) -> None:
        self.job = job
        self.state = job.state
        self.checkpoints = checkpoints
        self.machines = machines
        self.pod_check = PodCheck(job, checkpoints)

    async def run(self) -> None:
        """Take each step when it is due, until the job ends."""
        while not self.job.closing:
            due = self._next()
            await self.job.until(
                lambda seen=due: self.job.ending or self._next() < seen or self._any_step(),  # type: ignore[misc]
                due,
                "the next spot return",
            )
            if self.job.closing or (self.state.spec is not None and self.state.spec.members > 1):
                return  # that of a gang is in gang_return.py
            for replica in list(self.state.replicas.values()):
                replica.spot_return.at = self._return_time(replica)
                step = self._step(replica)
                if step is not None:
                    await self._take(replica, step)

    def _any_step(self) -> bool:
        return any(self._step(replica) for replica in self.state.replicas.values())

    @property
    def _wait(self) -> timedelta:
        return timedelta(seconds=self.state.timings.spot_return)

    def _return_time(self, replica: Replica) -> datetime | None:
        """Return when to look for a spot VM for a replica; None if it is on spot or meant to be on-demand."""
        if self.state.vm_spec is not None and not self.state.vm_spec.preemptible:
            return None
        at = return_time(replica, self.state.only_vm(replica), self._wait)
        return at and max(at, self.state.paused_until or at)  # it moves with a checkpoint, so it waits for the pause

    def _step(self, replica: Replica) -> Step | None:
        vms, record = self.state.vms, self.state.checkpoints.get(replica.spot_return.checkpoint or 0)
        step = next_step(
            replica,
            self.state.only_vm(replica),
            vms.get(replica.spot_return.reserved or ""),
            record,
            workflow.now(),
            images=self.state.spec is not None and self.checkpoints.takes_images,
        )
        return "GiveUp" if step == "Checkpoint" and self.checkpoints.schedule.paused else step

    def _next(self) -> datetime:
        """Return the earliest time at which a step becomes due without any other event."""
        times = [
            self._return_time(replica)
            for replica in self.state.replicas.values()
            if replica.spot_return.reserved is None
        ]
        resync = self.job.next_look()
        return min([resync, *(max(at, workflow.now()) for at in times if at is not None)])

    async def _take(self, replica: Replica, step: Step) -> None:
        if step != "Reserve" and (why := self._misfit(replica)):
            self.job.event(
                events.SPOT_DOES_NOT_FIT, f"replica {replica.index} stays on {replica.place.names}: {why}", warning=True
            )
            step = "GiveUp"
        match step:
            case "Reserve":
                await self._reserve(replica)
            case "Checkpoint":
                replica.spot_return.checkpoint = self.checkpoints.request(replica, "BackToSpot").number
            case "Move":
                replica.spot_return.moving = True
            case "GiveUp":
                await self._give_up(replica)
        self.job.touch()

    def _misfit(self, replica: Replica) -> str:
        """Say why an image of the replica would not fit the VM that is reserved for it; empty if it would."""
        on, reserved = self.state.only_vm(replica), self.state.vm(replica.spot_return.reserved)
        if not self.checkpoints.takes_images or not (on and on.report and reserved and reserved.report):
            return ""
        return differences(on.report.fingerprint, reserved.report.fingerprint)

    async def _reserve(self, replica: Replica) -> None:
        """Buy a spot VM for a replica. Its workflow keeps trying while none is available."""
        if not await self._could_move(replica):
            replica.spot_return.at = workflow.now() + self._wait
            return
        if self._step(replica) != "Reserve":  # it may have lost its machine meanwhile
            return
        replica.spot_return.reserved = key = self.machines.add(replica)
        self.state.vms[key].spot_only = True
        self.job.event(events.SEEKS_SPOT, f"replica {replica.index} runs on-demand: looking for a spot VM for it")
        try:
            await self.machines.ensure(key)
        except ActivityError as error:
            workflow.logger.warning("spot for replica %s: %s", replica.index, explain(error)[1])
            await self._give_up(replica)

    async def _could_move(self, replica: Replica) -> bool:
        """True if the replica's pod would be admitted on a spot VM. If not, it stays on the machine that it has."""
        try:
            verdict = await self.pod_check.verdict(replica)
        except ActivityError as error:
            workflow.logger.warning("the pod of replica %s: %s", replica.index, explain(error)[1])
            return False
        if not verdict.admitted:
            message = f"replica {replica.index} stays on {replica.place.names}: {verdict.message}"
            self.job.event(verdict.reason, message, warning=True)
        return verdict.admitted

    async def _give_up(self, replica: Replica) -> None:
        """Leave the replica where it is, and look for a spot VM again later."""
        reserved = replica.spot_return.reserved
        # Forget the VM before it is released: a replica that loses its machine now must not take it.
        replica.spot_return.give_up(until=workflow.now() + self._wait)
        await self.machines.release(reserved, reasons.NOT_NEEDED)
