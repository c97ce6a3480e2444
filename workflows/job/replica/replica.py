"""The life of one replica: a coroutine that goes from phase to phase and can begin in any of them.

Each phase is a step that works from the state. It can be repeated after a failure, a restart of the worker or
continue-as-new, because what it did before is in the state and its activities are idempotent. A failed step is reported
and retried after a back-off.
"""

from collections.abc import Awaitable, Callable

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from api import events
    from api.errors import CORRECTABLE
    from api.log_context import about
    from workflows.policy.backoff import SOON, USUAL

from api.phases import TERMINAL, Phase
from workflows.common.busy_loop import BusyLoopGuard
from workflows.common.calls import explain
from workflows.common.patches import patched
from workflows.job.checkpoints.checkpoints import Checkpoints
from workflows.job.core.job import Job
from workflows.job.machines.machines import Machines
from workflows.job.replica.back_off import BackOff
from workflows.job.replica.life import HaltedError, Life
from workflows.job.replica.placement import Placement
from workflows.job.replica.queued import Queued
from workflows.job.replica.releasing import Releasing
from workflows.job.replica.restoring import Restoring
from workflows.job.replica.running import Running
from workflows.job.replica.starting import Starting
from workflows.job.state.replica import Replica


class ReplicaLife:
    """The coroutine of one replica."""

    def __init__(self, job: Job, checkpoints: Checkpoints, machines: Machines, me: Replica) -> None:
        self.job = job
        self.me = me
        self.life = life = Life(job, checkpoints, machines, me)
        self.guard = BusyLoopGuard(me)
        placement, running = Placement(life), Running(life)
        self.steps: dict[Phase, Callable[[], Awaitable[None]]] = {
            "Pending": placement.look,
            "Preempted": placement.look,
            "Queued": Queued(life).wait,
            "Provisioning": placement.await_machine,
            "Joining": placement.await_machine,
            "NodeReady": placement.node_ready,
            "Restoring": Restoring(life).restore,
            "Starting": Starting(life).start,
            "Running": running.train,
            "Judging": running.judge,
            "Releasing": Releasing(life).release,
        }

    async def run(self) -> None:
        """Go from phase to phase until a terminal one, or until the run ends."""
        about(replica=self.me.index)
        if self.me.recovery:
            self.life.rescue.watch(self.me, self.me.recovery)
        while self.me.phase not in TERMINAL and not self.job.parking:
            if self.life.halted():
                self.me.retry.reset()
                self.life.enter("Releasing", f"releasing everything: {self.me.halt}")
            try:
                await self._back_off()
                if not self.job.parking:
                    self.guard.begin()
                    await self.steps[self.me.phase]()
                    await self._pause_if_busy()
            except HaltedError:
                continue
            except ActivityError as error:
                self._failed(error)

    async def _back_off(self) -> None:
        """Wait until the step may be retried."""
        if self.me.retry.at:
            await BackOff(self.life).wait()
        if not self.job.parking:
            self.me.retry.at = None

    async def _pause_if_busy(self) -> None:
        pause = self.guard.pause()
        if pause is not None and not self.job.parking and patched("standstill"):
            workflow.logger.warning("replica %s runs in a busy loop in %s", self.me.index, self.me.phase)
            await self.life.until(lambda: False, workflow.now() + pause, f"a busy loop in {self.me.phase}")

    def _failed(self, error: ActivityError) -> None:
        reason, message = explain(error)
        soon = reason in CORRECTABLE and patched("corrected-soon")
        self.life.back_off(f"{reason}: {message}", ceiling=SOON if soon else USUAL)
        self.job.event(events.step_failed(self.me.phase), f"replica {self.me.index}: {message}", warning=True)
