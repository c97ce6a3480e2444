"""Back from on-demand to spot when spot returns: by checkpointing over, never by killing.

For a replica that runs on-demand a spot VM is bought beside it, however long that takes. Once that VM is Ready the
replica is checkpointed, and goes on from there on the new machine; only then is the dear one let go of.
"""

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from api.names import vm_key
    from workflows.policy.restore import differences
    from workflows.policy.returning import Step, next_step, return_time

from workflows.calls import explain
from workflows.checkpointing import Checkpointing
from workflows.job import Job
from workflows.machines import Machines
from workflows.pod_check import PodCheck
from workflows.state import Replica


class Returning:
    """The ways back of one job's replicas."""

    def __init__(self, job: Job, checkpointing: Checkpointing, machines: Machines) -> None:
        self.job = job
        self.state = job.state
        self.checkpointing = checkpointing
        self.machines = machines
        self.pod_check = PodCheck(job, checkpointing)

    async def run(self) -> None:
        """Take each step when it is due, until the job ends."""
        while not self.job.closing:
            due = self._next()
            await self.job.until(
                lambda seen=due: self.job.ending or self._next() < seen or self._any_step(),  # type: ignore[misc]
                due,
                "a way back to spot",
            )
            if self.job.closing:
                return
            for replica in list(self.state.replicas.values()):
                replica.return_at = self._return_time(replica)
                step = self._step(replica)
                if step is not None:
                    await self._take(replica, step)

    def _any_step(self) -> bool:
        return any(self._step(replica) for replica in self.state.replicas.values())

    @property
    def _wait(self) -> timedelta:
        return timedelta(seconds=self.state.timings.spot_return)

    def _return_time(self, replica: Replica) -> datetime | None:
        """When spot is tried again for it, None if it is on spot or is meant to be on-demand."""
        if self.state.vm_spec is not None and not self.state.vm_spec.preemptible:
            return None
        at = return_time(replica, self.state.vms.get(replica.vm_key or ""), self._wait)
        return at and max(at, self.state.paused_until or at)  # it goes over by a checkpoint

    def _step(self, replica: Replica) -> Step | None:
        vms, record = self.state.vms, self.state.checkpoints.get(replica.return_checkpoint or 0)
        step = next_step(
            replica,
            vms.get(replica.vm_key or ""),
            vms.get(replica.reserved or ""),
            record,
            workflow.now(),
            images=self.state.spec is not None and self.checkpointing.takes_images,
        )
        return "GiveUp" if step == "Checkpoint" and self.checkpointing.pacing.paused else step

    def _next(self) -> datetime:
        """The earliest moment at which time alone makes a step due."""
        times = [self._return_time(replica) for replica in self.state.replicas.values() if replica.reserved is None]
        resync = self.job.after(self.state.timings.resync)
        return min([resync, *(max(at, workflow.now()) for at in times if at is not None)])

    async def _take(self, replica: Replica, step: Step) -> None:
        if step != "Reserve" and (why := self._misfit(replica)):
            self.job.event("SpotDoesNotFit", f"replica {replica.index} stays on {replica.node}: {why}", warning=True)
            step = "GiveUp"
        match step:
            case "Reserve":
                await self._reserve(replica)
            case "Checkpoint":
                replica.return_checkpoint = self.checkpointing.request(replica, "BackToSpot").number
            case "Move":
                replica.moving = True
            case "GiveUp":
                await self._give_up(replica)
        self.job.touch()

    def _misfit(self, replica: Replica) -> str:
        """Why its process image would not go on on the VM that is reserved for it; empty where it would."""
        on, reserved = (self.state.vms.get(key or "") for key in (replica.vm_key, replica.reserved))
        if not self.checkpointing.takes_images or not (on and on.report and reserved and reserved.report):
            return ""
        return differences(on.report.fingerprint, reserved.report.fingerprint)

    async def _reserve(self, replica: Replica) -> None:
        """Buy a spot VM for it; the search goes on for as long as nothing is to be had."""
        if not await self._could_move(replica):
            replica.return_at = workflow.now() + self._wait
            return
        if self._step(replica) != "Reserve":  # it lost its machine meanwhile
            return
        replica.place += 1
        replica.reserved = vm_key(self.job.start.job_id, replica.index, replica.place)
        self.machines.wanted(replica.reserved, replica.index)
        self.state.vms[replica.reserved].spot_only = True
        self.job.event("SeeksSpot", f"replica {replica.index} runs on-demand: a spot VM is sought for it")
        try:
            await self.machines.ensure(replica.reserved)
        except ActivityError as error:
            workflow.logger.warning("spot for replica %s: %s", replica.index, explain(error)[1])
            await self._give_up(replica)

    async def _could_move(self, replica: Replica) -> bool:
        """True if its pod would be admitted on the spot VM; else it stays on the machine that it has."""
        try:
            verdict = await self.pod_check.verdict(replica)
        except ActivityError as error:
            workflow.logger.warning("the pod of replica %s: %s", replica.index, explain(error)[1])
            return False
        if not verdict.admitted:
            message = f"replica {replica.index} stays on {replica.node}: {verdict.message}"
            self.job.event(verdict.reason, message, warning=True)
        return verdict.admitted

    async def _give_up(self, replica: Replica) -> None:
        """It stays where it is, and spot is tried again later."""
        reserved = replica.reserved
        # Before it is let go of: who loses its machine in this moment must not take one that is on its way out.
        replica.reserved = replica.return_checkpoint = None
        replica.return_at = workflow.now() + self._wait
        await self.machines.release(reserved, "NotNeeded")
