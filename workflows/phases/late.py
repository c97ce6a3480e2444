"""A pod that does not run yet: people read why, and the machine under it is not kept for ever."""

from datetime import datetime, timedelta
from typing import Any, Literal

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.spot_instance_vm import SpotInstanceVMSpec
    from api.views import PodView
    from workflows.policy.patience import given_back_at
    from workflows.policy.startup import remedy

from workflows.calls import call, explain
from workflows.phases.life import Life, Part

LOOK_SECONDS = 60.0
"""Between looks at the Events of a pod that is late, and before the first one at a pod that is on its node."""

Turn = Literal["Waits", "TooLate", "TemplateEdited", "MachineEdited"]


class Late(Part):
    """The wait for one incarnation's pod."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.reading = act.StartReading()
        self.look_at: datetime | None = None
        self.well = False  # the last look found no hindrance
        self.template: dict[str, Any] = {}
        self.vm_spec: SpotInstanceVMSpec | None = None

    @property
    def applies(self) -> bool:
        """True unless the workflow goes on from a history in which nobody looked."""
        return workflow.patched("pods-start")

    def begin(self) -> None:
        """Begin the wait of another incarnation, made of the template as it is now."""
        self.reading, self.look_at, self.well = act.StartReading(), None, False
        self.template, self.vm_spec = self.job.spec.job_template, self.state.vm_spec

    async def turn(self, pod: PodView | None) -> Turn:
        """Say what the pod waits for, and wait until something changes or is to be looked at again."""
        if self.job.spec.job_template != self.template:
            return "TemplateEdited"
        if self.me.trouble and self.state.vm_spec != self.vm_spec and self.me.vm_key:
            return "MachineEdited"
        await self._look(pod)
        leaves_at = self._leaves_at()
        if leaves_at is not None and workflow.now() >= leaves_at:
            return "TooLate"
        self.life.say(self._words(pod))
        look = min(self._next_look(pod), leaves_at or self.job.after(self.state.timings.resync))
        if self.me.candidates and pod is not None and self.me.deadline is not None:
            look = min(look, self.me.deadline)
        version = self.me.view_version
        changed = await self.life.until(
            lambda: self.me.view_version != version or self.life.machine_lost() or self._is_edited(),
            look,
            f"replica {self.me.index}: {self.me.message}",
        )
        if not changed:
            await self.life.observe("read before acting on silence")
        return "Waits"

    def _is_edited(self) -> bool:
        vm_edited = self.me.trouble is not None and self.state.vm_spec != self.vm_spec
        return self.job.spec.job_template != self.template or vm_edited

    def _leaves_at(self) -> datetime | None:
        """Compute when the VM goes back, or the GPU of the cluster to others; None if the pod is on no machine."""
        if self.me.node is None:
            return None
        allowed = self.job.spec.seconds_to_start or self.state.timings.start_deadline
        return given_back_at(self.me, self.reading, self.me.hindered_since, self.state.timings, allowed)

    async def _look(self, pod: PodView | None) -> None:
        """Learn why it does not run: the kubelet's and the scheduler's words are known, for others' Events are read."""
        if self.me.candidates and pod is not None:
            return  # the scheduler takes a moment
        if pod is not None and pod.waiting_reason:
            self.reading = act.StartReading(reason=pod.waiting_reason, message=pod.message or "")
        elif workflow.now() >= self._first_look(pod) and (self.look_at is None or workflow.now() >= self.look_at):
            self.look_at = self.job.after(LOOK_SECONDS)
            try:
                self.reading = await call(
                    act.READ_START, self.life.ref(), summary=f"why does the pod of {self.life.job_name} not run?"
                )
            except ActivityError as error:  # what is known so far counts; the API server is asked again in a minute
                workflow.logger.warning("start of %s: %s", self.life.job_name, explain(error)[1])
        else:
            return
        before, self.well = self.well, not self.reading.reason
        if self.reading.reason:
            self.me.hindered_since = self.me.hindered_since or workflow.now()
            self.life.starts.fails(self.me, self.reading.reason, self._said())
        elif before:  # between two tries a pull that fails looks like one that goes on
            self.me.hindered_since = None
            self.life.starts.goes_on(self.me)

    def _said(self) -> str:
        """What keeps it from running, what helps, and of which pod that is said: people read the beginning first."""
        helps = remedy(self.reading.reason, restored=self.me.restore is not None)
        where = f" on {self.me.node}" if self.me.node else ""
        return f"{self.reading.message.rstrip('.')}{f'. {helps}' if helps else ''} ({self.life.job_name}{where})"

    def _first_look(self, pod: PodView | None) -> datetime:
        """Compute the first look: a Job has its pod at once; a pod on its node may take a minute without a word."""
        return self.me.since + timedelta(seconds=self.state.timings.schedule_wait if pod is None else LOOK_SECONDS)

    def _next_look(self, pod: PodView | None) -> datetime:
        if pod is not None and pod.waiting_reason:
            return self.job.after(self.state.timings.resync)  # the bridge tells when that changes
        return max(self.look_at or self._first_look(pod), self.job.after(1))

    def _words(self, pod: PodView | None) -> str:
        said = self.reading.reason or self.reading.busy
        return said or ("waits for its pod to run" if pod else "waits for its pod")
