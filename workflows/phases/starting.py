"""The Job is created, and its pod comes to run or does not."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from api import errors
    from api.report import IncarnationRecord
    from api.views import PodView
    from workflows.policy.startup import Startup, does_not_start, init_failure, startup, waits_for_others

from workflows.calls import explain
from workflows.phases.incarnation import Incarnation
from workflows.phases.life import Life, Part
from workflows.phases.queued import Queued
from workflows.phases.room import LOOK_SECONDS, Lack, Room
from workflows.phases.standing import Standing
from workflows.phases.terms import Terms
from workflows.state import Recovery


class Starting(Part):
    """Starting."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.room = Room(life)
        self.standing = Standing(life)
        self.terms = Terms(life)
        self.incarnation = Incarnation(life)
        self.queue = Queued(life)

    async def start(self) -> None:
        """Create the Job, delete the predecessor's, and wait for the pod to run."""
        if not await self._create_job():
            return
        if self.me.deadline is None:
            bought = self.me.vm_key is not None
            timings = self.state.timings
            self.me.deadline = self.job.after(timings.startup_deadline if bought else timings.schedule_wait)
        await self.incarnation.delete_predecessors()
        look_at = self.room.first_look
        while not self.job.parking:
            pod = self.me.view.pod if self.me.view else None
            self._see_place(pod)
            if await self.queue.starts_later(pod) or self.life.lost_place():
                return
            match self._read(pod):
                case "Running" | "Ended":
                    self._started(pod)
                    return
                case "BadImage" | "MissingImage" as trouble:
                    await self._image_failed(trouble, pod)
                    return
                case "InitFailed":
                    await self._init_failed(pod)
                    return
                case "NeverRan":
                    await self._never_ran("its pod ended before it ran")
                    return
            if pod is None and self.me.view and (self.me.view.job_failed or not self.me.view.job_exists):
                await self._never_ran("its pod was deleted")
                return
            until = min(self.me.deadline, self.job.after(self.state.timings.resync))
            if pod and self.room.is_missing(pod):
                if workflow.now() >= min(look_at, self.room.deadline):
                    lack, look_at = await self.room.look(pod), self.job.after(LOOK_SECONDS)
                    if self.room.is_late and await self._still_no_room():
                        await self._give_up(lack)
                        return
                    continue
                until = min(look_at, self.room.deadline)
            elif workflow.now() >= self.me.deadline:
                await self._not_started(pod)
                return
            else:
                self.life.say(pod.waiting_reason or "waits for its pod to run" if pod else "waits for its pod")
                if pod is not None and pod.node and pod.waiting_reason:
                    self.life.starts.fails(self.me, pod.waiting_reason, f"on {pod.node}: {pod.message or 'no words'}")
            version = self.me.view_version
            changed = await self.life.until(
                lambda seen=version: self.me.view_version != seen or self.life.machine_lost(),  # type: ignore[misc]
                until,
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
        """False where it is to run elsewhere: other jobs have claimed the nodes, or a later incarnation runs there."""
        if self.me.pinned:
            return True  # it was there before the machine
        try:
            view = await self.incarnation.create()
        except ActivityError as error:
            reason, message = explain(error)
            if reason == errors.BUSY:
                await self._elsewhere(message)
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
            await self._give_up(lack)
            return
        said = self.me.message
        self.life.back_off(said)
        self.me.retry_at = min(self.me.retry_at or self.room.deadline, self.room.deadline)

    async def _give_up(self, lack: Lack) -> None:
        """Let go of a machine that has no room for the replica it was bought for."""
        await self._again(lack.reason, keep_machine=False, announce=False)
        self.me.crowded += 1
        self.me.in_vain = self.me.crowded - 1  # a VM that got Ready counts as bought in vain, too, if it has no room
        self.life.back_off(lack.message, in_vain=True)
        self.job.condition("CapacityAvailable", False, lack.reason, self.me.message)

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
        self.me.failures, self.me.crowded, self.me.avoid = 0, 0, []
        self.room.found()
        self.life.starts.runs(self.me)
        if self.me.restore:
            if self.me.restore.kind == "Image":  # of its own checkpoint a training was only told
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

    async def _image_failed(self, trouble: str, pod: PodView | None) -> None:
        """The image is at fault once two nodes could not start it, at once where the registry has it no more."""
        why = (pod.message or pod.waiting_reason or "") if pod else ""
        same_machine = trouble == "MissingImage"
        self.life.restore_failed(f"{trouble}: {why}", missing=same_machine)
        nothing_else = not self.restoring.usable_point(self.me)
        await self._again("RestoreFailed", keep_machine=same_machine, ask_survivor=nothing_else)

    async def _init_failed(self, pod: PodView | None) -> None:
        """Count the training's own failure, for which neither image nor machine is to blame."""
        why = init_failure(pod)
        await self.life.save_logs(self.me.incarnation)
        await self.incarnation.delete(why)
        if not self.terms.decide(pod):
            await self.standing.failed(why)

    async def _never_ran(self, why: str) -> None:
        """On the machine that it has, after a pause; the second time in a row on another one."""
        why = f"{why}: {self.me.disruption}" if self.me.disruption else why
        self.job.event("StartFailed", f"replica {self.me.index} on {self.me.node}: {why}", warning=True)
        end, leave = self.standing.never_ran(why)
        await self._again(why, keep_machine=not leave, announce=not leave)
        self.standing.count_never_ran(end)

    async def _not_started(self, pod: PodView | None) -> None:
        if self.me.candidates:
            await self._elsewhere("the scheduler gave the free GPU to another pod")
            return
        reason = (pod.message or pod.waiting_reason if pod else None) or "its pod did not run in time"
        self.job.event("StartTimeout", f"replica {self.me.index} on {self.me.node}: {reason}", warning=True)
        if pod is not None and does_not_start(pod):
            await self.incarnation.delete(reason)
            self.life.failed_by_itself(reason)  # of the original image: no other machine would help
        elif pod is not None and waits_for_others(pod):
            self.me.deadline = self.job.after(self.state.timings.startup_deadline)  # nor here: a person has to act
        else:
            await self._again("StartTimeout", keep_machine=False)

    async def _elsewhere(self, why: str) -> None:
        """None of the cluster's free nodes was to be had."""
        if self.me.pinned:
            self.queue.buy_instead(why)
            return
        self.me.avoid = sorted({*self.me.avoid, *self.me.candidates})
        await self._again(why, keep_machine=False)

    async def _again(
        self, cause: str, *, keep_machine: bool, ask_survivor: bool = False, announce: bool = True
    ) -> None:
        """Another incarnation in place of one that never ran."""
        await self.incarnation.delete(cause)
        if not keep_machine:
            await self.machines.release(self.me.vm_key, cause)
            if self.me.node:
                self.me.avoid = [*self.me.avoid, self.me.node][-8:]
        self.life.replace(cause, machine_stays=keep_machine, ask_survivor=ask_survivor, announce=announce)
