"""A pod that does not run yet: what blocks it is reported, and its machine is not kept for ever."""

from datetime import datetime, timedelta
from typing import Any, Literal

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.spot_instance_vm import SpotInstanceVMSpec
    from api.views import PodView
    from workflows.job.replica.policy.patience import released_at
    from workflows.job.replica.policy.startup import remedy

from workflows.common.calls import explain
from workflows.common.patches import patched
from workflows.job.replica.life import Life, Part

EVENTS_SECONDS = 60.0
"""The time between two reads of a late pod's Events, and before the first one if the pod is on its node."""

Turn = Literal["Waits", "TooLate", "TemplateEdited", "MachineEdited"]


class LatePod(Part):
    """Waits for the pod of one incarnation to run."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.reading = act.StartReading()
        self.read_at: datetime | None = None  # when its Events are read next
        self.well = False  # the last read found no blocker
        self.template: dict[str, Any] = {}
        self.vm_spec: SpotInstanceVMSpec | None = None

    @property
    def applies(self) -> bool:
        """True unless this run began on a release that read no Events."""
        return patched("pods-start")

    def begin(self) -> None:
        """Begin to wait for another incarnation, which is made of the present template."""
        self.reading, self.read_at, self.well = act.StartReading(), None, False
        self.template, self.vm_spec = self.job.spec.job_template, self.state.vm_spec

    async def turn(self, pod: PodView | None, version: int) -> Turn:
        """Report what the pod waits for, and wait until something changes or the next read is due.

        ``version`` is that of the view in which the pod was seen.
        """
        if self.job.spec.job_template != self.template:
            return "TemplateEdited"
        if self.me.blocker and self.state.vm_spec != self.vm_spec and self.me.place.bought:
            return "MachineEdited"
        await self._read(pod)
        leaves_at = self._leaves_at()
        if leaves_at is not None and workflow.now() >= leaves_at:
            return "TooLate"
        self.life.say(self._words(pod))
        read_at = min(self._next_read(pod), leaves_at or self.job.next_check())
        if self.me.place.candidates and pod is not None and self.me.deadline is not None:
            read_at = min(read_at, self.me.deadline)
        seen = self.life.news_since(version)
        changed = await self.life.until(
            lambda: self.me.run.view_version != seen or self.life.machine_lost() or self._is_edited(),
            read_at,
            f"replica {self.me.index}: {self.me.message}",
        )
        if not changed:
            await self.life.observe("nothing was heard of it")
        return "Waits"

    def _is_edited(self) -> bool:
        vm_edited = self.me.blocker is not None and self.state.vm_spec != self.vm_spec
        return self.job.spec.job_template != self.template or vm_edited

    def _leaves_at(self) -> datetime | None:
        """Return when to release the VM, or to leave the cluster's GPU to others; None if the pod has no machine."""
        if not self.me.place.settled:
            return None
        allowed = self.job.spec.seconds_to_start or self.state.timings.start_deadline
        return released_at(self.me, self.reading, self.me.run.blocked_since, self.state.timings, allowed)

    async def _read(self, pod: PodView | None) -> None:
        """Learn what blocks the pod: from its status, where kubelet and scheduler write, or else from its Events."""
        if self.me.place.candidates and pod is not None:
            return  # the scheduler takes a moment
        if pod is not None and pod.waiting_reason:
            self.reading = act.StartReading(reason=pod.waiting_reason, message=pod.message or "")
        elif workflow.now() >= self._first_read(pod) and (self.read_at is None or workflow.now() >= self.read_at):
            self.read_at = self.job.after(EVENTS_SECONDS)
            why = f"why does the pod of {self.life.job_name} not run?"
            try:
                found = await self.life.ask(act.READ_START, why, self.life.machine_lost)
            except ActivityError as error:  # the last answer still counts; the API server is asked again in a minute
                workflow.logger.warning("start of %s: %s", self.life.job_name, explain(error)[1])
                found = self.reading
            if found is None:
                return
            self.reading = found
        else:
            return
        before, self.well = self.well, not self.reading.reason
        if self.reading.reason:
            self.me.run.blocked_since = self.me.run.blocked_since or workflow.now()
            self.life.pod_starts.fails(self.me, self.reading.reason, self._message())
        elif before:  # a single read is not enough: between two attempts a failing pull looks like one that goes on
            self.me.run.blocked_since = None
            self.life.pod_starts.unblocked(self.me)

    def _message(self) -> str:
        """Say what blocks the pod, what helps, and which pod it is. People read the beginning first."""
        helps = remedy(self.reading.reason, restored=self.me.run.restore is not None)
        place = f" on {self.me.place.names}" if self.me.place.nodes else ""
        return f"{self.reading.message.rstrip('.')}{f'. {helps}' if helps else ''} ({self.life.job_name}{place})"

    def _first_read(self, pod: PodView | None) -> datetime:
        """Return when to read Events first: soon if the Job has no pod; a pod on its node may take a minute."""
        return self.me.since + timedelta(seconds=self.state.timings.schedule_wait if pod is None else EVENTS_SECONDS)

    def _next_read(self, pod: PodView | None) -> datetime:
        if pod is not None and pod.waiting_reason:
            return self.job.next_check()  # the bridge reports when that changes
        return max(self.read_at or self._first_read(pod), self.job.after(1))

    def _words(self, pod: PodView | None) -> str:
        known = self.reading.reason or self.reading.busy
        return known or ("waiting for its pod to run" if pod else "waiting for its pod")
