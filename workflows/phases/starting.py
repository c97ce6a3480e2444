"""The Job is created, and its pod comes to run or does not."""

from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from api import errors
    from api.report import IncarnationRecord
    from api.views import PodView
    from workflows.policy.startup import Startup, startup

from workflows.calls import explain
from workflows.phases.another import Another
from workflows.phases.incarnation import Incarnation
from workflows.phases.late import Late
from workflows.phases.life import Life, Part
from workflows.phases.queued import Queued
from workflows.phases.room import LOOK_SECONDS, Lack, Room
from workflows.state import Recovery


class Starting(Part):
    """Starting."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.room = Room(life)
        self.late = Late(life)
        self.incarnation = Incarnation(life)
        self.queue = Queued(life)
        self.another = Another(life, self.incarnation, self.queue)

    async def start(self) -> None:
        """Create the Job, delete the predecessor's, and wait for the pod to run."""
        if not await self._create_job():
            return
        if self.me.deadline is None:
            bought = self.me.vm_key is not None
            timings = self.state.timings
            self.me.deadline = self.job.after(timings.startup_deadline if bought else timings.schedule_wait)
        await self.incarnation.delete_predecessors()
        self.late.begin()
        look_at = self.room.first_look
        while not self.job.parking:
            pod = self.me.view.pod if self.me.view else None
            self._see_place(pod)
            if await self.queue.starts_later(pod) or self.life.lost_place() or await self._is_over(pod):
                return
            if pod and self.room.is_missing(pod):
                if workflow.now() >= min(look_at, self.room.deadline):
                    lack, look_at = await self.room.look(pod), self.job.after(LOOK_SECONDS)
                    if self.room.is_late and await self._still_no_room():
                        await self.another.no_room(lack)
                        return
                    continue
                await self._await_news(min(look_at, self.room.deadline))
            elif self.late.applies:
                if await self._is_given_up(pod):
                    return
            elif workflow.now() >= self.me.deadline:
                await self.another.timed_out(pod)
                return
            else:
                self.life.say(pod.waiting_reason or "waits for its pod to run" if pod else "waits for its pod")
                await self._await_news(self.me.deadline)

    async def _is_over(self, pod: PodView | None) -> bool:
        """Deal with a pod that runs, or that will never run; True if it did either."""
        match self._read(pod):
            case "Running" | "Ended":
                self._started(pod)
                return True
            case "BadImage" | "MissingImage" as trouble:
                await self.another.bad_image(trouble, pod)
                return True
            case "InitFailed":
                await self.another.init_failed(pod)
                return True
            case "NeverRan":
                await self.another.never_ran("its pod ended before it ran", pod)
                return True
        if pod is None and self.me.view and (self.me.view.job_failed or not self.me.view.job_exists):
            await self.another.never_ran("its pod was deleted", pod)
            return True
        if pod is not None and self._is_spared:
            self.life.starts.runs(self.me)
            await self.another.elsewhere("its pod can be made now")
            return True
        return False

    async def _is_given_up(self, pod: PodView | None) -> bool:
        """Wait a while longer for a pod that does not run yet; True if that was long enough."""
        if self.me.candidates and pod is not None and self.me.deadline and workflow.now() >= self.me.deadline:
            await self.another.elsewhere("the scheduler gave the free GPU to another pod")
            return True
        match await self.late.turn(pod):
            case "TemplateEdited":
                self.me.in_vain = 0
                await self.another.again("jobTemplate was edited", keep_machine=self.me.node is not None)
            case "MachineEdited":
                self.me.in_vain = 0
                await self.another.again("the SpotInstanceVM was edited", keep_machine=False)
            case "TooLate":
                await self.another.too_late(pod, self.late.reading.busy)
            case "Waits":
                return False
        return not self._is_spared

    @property
    def _is_spared(self) -> bool:
        """True if its Job waits without a machine until its pod can be made."""
        return self.me.phase == "Starting" and not (self.me.node or self.me.candidates or self.me.vm_key)

    async def _await_news(self, deadline: datetime) -> None:
        version = self.me.view_version
        changed = await self.life.until(
            lambda: self.me.view_version != version or self.life.machine_lost(),
            min(deadline, self.job.after(self.state.timings.resync)),
            f"replica {self.me.index}: {self.me.message}",
        )
        if not changed:
            await self.life.observe("read before acting on silence")

    def _read(self, pod: PodView | None) -> Startup:
        restored = self.me.restore is not None and self.me.restore.kind == "Image"
        found = startup(pod, restored=restored)
        if pod is None or found != "InitFailed" or workflow.patched("init-failed"):
            return found
        return startup(pod.model_copy(update={"ends": []}), restored=restored)  # as earlier releases read it

    def _see_place(self, pod: PodView | None) -> None:
        """The scheduler has chosen among the nodes with a free GPU."""
        if pod is not None and pod.node and self.me.candidates:
            self.me.node, self.me.candidates = pod.node, []
            self.me.deadline = self.job.after(self.state.timings.startup_deadline)

    async def _create_job(self) -> bool:
        """False if it is to run elsewhere: other jobs have claimed the nodes, or a later incarnation runs there."""
        if self._is_spared:
            await self.life.observe("can its pod be made?")
        if self._is_spared or self.me.pinned:
            return True  # it was there before the machine
        try:
            view = await self.incarnation.create()
        except ActivityError as error:
            reason, message = explain(error)
            if reason == errors.BUSY:
                await self.another.elsewhere(message)
                return False
            if reason == errors.ROOM_TAKEN:
                await self._await_room(self.room.taken(message))
                return False
            raise
        pod = view.pod
        if pod is None or pod.node is None or pod.node in {self.me.node, *self.me.candidates}:
            return True
        self.life.replace("it runs elsewhere since its workflow was reset", machine_stays=True)
        if self.me.recovery:
            self.me.recovery.olds[-1].node = pod.node
        return False

    async def _still_no_room(self) -> bool:
        """Look before the machine is given up: what the bridge told may be old."""
        await self.life.observe("before its VM is given up")
        return self.room.is_missing(self.me.view.pod if self.me.view else None)

    async def _await_room(self, lack: Lack) -> None:
        """Create the Job once the strangers are gone; until then, or until the machine is given up, back off."""
        if self.room.is_late:
            await self.another.no_room(lack)
            return
        said = self.me.message
        self.life.back_off(said)
        self.me.retry_at = min(self.me.retry_at or self.room.deadline, self.room.deadline)

    def _started(self, pod: PodView | None) -> None:
        self.me.running_since = (pod.started_at if pod else None) or workflow.now()
        self.me.node = pod.node if pod and pod.node else self.me.node
        self.me.candidates = []
        self.state.ledger.begin(
            IncarnationRecord(
                replica=self.me.index,
                incarnation=self.me.incarnation,
                node=self.me.node,
                restored_from=self.me.restore.label if self.me.restore else None,
                started_at=self.me.running_since,
            )
        )
        recovery, self.me.recovery = self.me.recovery, None
        self.me.failures, self.me.crowded, self.me.in_vain, self.me.avoid = 0, 0, 0, []
        self.me.ran = True
        self.room.found()
        self.life.starts.runs(self.me)
        if self.me.restore:
            if self.me.restore.kind == "Image":  # of its own checkpoint a training was only told
                self.me.to_prove = workflow.patched("own-ends")
                if not self.me.to_prove:
                    self.restoring.proven(self.me.restore)
            self.job.event(
                "Restored",
                f"replica {self.me.index} runs on {self.me.node} from progress {self.me.restore.progress:.0f}"
                + (f", {self._seconds_since(recovery):.1f} s after {recovery.cause}" if recovery else ""),
            )
        else:
            self.job.event("Started", f"replica {self.me.index} runs on {self.me.node} from the beginning")
        self.life.enter("Running")

    def _seconds_since(self, recovery: Recovery) -> float:
        return (workflow.now() - recovery.noticed_at).total_seconds()
