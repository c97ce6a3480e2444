"""One replica's life: a coroutine that goes from phase to phase and can begin in any of them.

Each phase is a step over the state: taken again after a failure, a restart of the worker or continue-as-new it goes
on, because what it did before is in the state and what it asks of the world is idempotent. A step that fails becomes
a condition, a back-off and the same step again.
"""

from collections.abc import Awaitable, Callable

from temporalio import workflow
from temporalio.exceptions import ActivityError

from workflows.calls import explain
from workflows.checkpointing import Checkpointing
from workflows.job import Job
from workflows.machines import Machines
from workflows.phases.life import HaltedError, Life
from workflows.phases.preparing import Preparing
from workflows.phases.queued import Queued
from workflows.phases.releasing import Releasing
from workflows.phases.rest import Rest
from workflows.phases.running import Running
from workflows.phases.seeking import Seeking
from workflows.phases.starting import Starting
from workflows.standstill import Standstill
from workflows.state import TERMINAL, Phase, Replica


class ReplicaLife:
    """The coroutine of one replica."""

    def __init__(self, job: Job, checkpointing: Checkpointing, machines: Machines, me: Replica) -> None:
        self.job = job
        self.me = me
        self.life = life = Life(job, checkpointing, machines, me)
        self.standstill = Standstill(me)
        seeking, running = Seeking(life), Running(life)
        self.steps: dict[Phase, Callable[[], Awaitable[None]]] = {
            "Pending": seeking.seek,
            "Preempted": seeking.seek,
            "Queued": Queued(life).wait,
            "Provisioning": seeking.await_machine,
            "Joining": seeking.await_machine,
            "NodeReady": seeking.node_ready,
            "Restoring": Preparing(life).restore,
            "Starting": Starting(life).start,
            "Running": running.train,
            "Judging": running.judge,
            "Releasing": Releasing(life).release,
        }

    async def run(self) -> None:
        """Go from phase to phase until a terminal one, or until the job parks."""
        if self.me.recovery:
            self.life.rescue.watch(self.me, self.me.recovery)
        while self.me.phase not in TERMINAL and not self.job.parking:
            if self.life.halted():
                self.me.retry_at, self.me.failures = None, 0
                self.life.enter("Releasing", f"lets go: {self.me.halt}")
            try:
                await self._rest()
                if not self.job.parking:
                    self.standstill.begin()
                    await self.steps[self.me.phase]()
                    await self._pause_at_standstill()
            except HaltedError:
                continue
            except ActivityError as error:
                self._failed(error)

    async def _rest(self) -> None:
        """Wait until the step may be retried."""
        if self.me.retry_at:
            await Rest(self.life).run()
        if not self.job.parking:
            self.me.retry_at = None

    async def _pause_at_standstill(self) -> None:
        pause = self.standstill.pause()
        if pause is not None and not self.job.parking and workflow.patched("standstill"):
            workflow.logger.warning("replica %s stands still in %s", self.me.index, self.me.phase)
            await self.life.until(lambda: False, workflow.now() + pause, f"nothing changes in {self.me.phase}")

    def _failed(self, error: ActivityError) -> None:
        reason, message = explain(error)
        self.life.back_off(f"{reason}: {message}")
        self.job.event(f"{self.me.phase}Failed", f"replica {self.me.index}: {message}", warning=True)
