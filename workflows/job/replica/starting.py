"""The phase Starting: the Job is created, and its pod is expected to run."""

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from api import errors, events, metrics
    from api.report import IncarnationRecord
    from api.views import PodView
    from api.waiting import UNSCHEDULABLE
    from workflows.job.replica.policy.startup import Startup, startup

from workflows.common.calls import explain
from workflows.common.patches import patched
from workflows.job.replica.incarnation import Incarnation
from workflows.job.replica.late_pod import LatePod
from workflows.job.replica.life import Life, Part
from workflows.job.replica.queued import Queued
from workflows.job.replica.replacement import Replacement
from workflows.job.replica.room import CHECK_SECONDS, Lack, Room
from workflows.job.state.replica import Recovery

LATE_SCHEDULER = 20
"""So many times ``schedule_wait`` a pod is left to a scheduler that says nothing about it: five minutes."""


class Starting(Part):
    """The phase Starting."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.room = Room(life)
        self.late_pod = LatePod(life)
        self.incarnation = Incarnation(life)
        self.queue = Queued(life)
        self.replacement = Replacement(life, self.incarnation, self.queue)

    async def start(self) -> None:
        """Create the Job, delete the predecessor's, and wait for the pod to run."""
        if not await self._create_job():
            return
        if self.me.deadline is None:
            bought = self.me.place.bought
            timings = self.state.timings
            self.me.deadline = self.job.after(timings.startup_deadline if bought else timings.schedule_wait)
        await self.incarnation.delete_predecessors()
        self.late_pod.begin()
        check_at = self.room.first_check
        while not self.job.parking:
            pod, version = self.life.lagging_pod, self.me.run.view_version
            self._settle()
            if await self.queue.starts_later() or self.life.lost_place() or await self._is_over(pod):
                return
            if pod and self.room.is_missing(pod):
                if workflow.now() >= min(check_at, self.room.deadline):
                    lack, check_at = await self.room.check(pod), self.job.after(CHECK_SECONDS)
                    if self.room.is_late and await self._still_no_room():
                        await self.replacement.no_room(lack)
                        return
                    continue
                await self._await_news(version, min(check_at, self.room.deadline))
            elif self.late_pod.applies:
                if await self._is_given_up(pod, version):
                    return
            elif workflow.now() >= self.me.deadline:
                await self.replacement.timed_out(pod)
                return
            else:
                self.life.say(pod.waiting_reason or "waiting for its pod to run" if pod else "waiting for its pod")
                await self._await_news(version, self.me.deadline)

    async def _is_over(self, pod: PodView | None) -> bool:
        """Act on a pod that runs, or that will never run. True if it was one of these."""
        match self._read(pod):
            case "Running" | "Ended":
                self._started(pod)
                return True
            case "BadImage" | "MissingImage" as kind:
                await self.replacement.bad_image(kind, pod)
                return True
            case "InitFailed":
                await self.replacement.init_failed(pod)
                return True
            case "NeverRan":
                await self.replacement.never_ran("its pod ended before it ran", pod)
                return True
        if pod is None and self.me.run.view and (self.me.run.view.job_failed or not self.me.run.view.job_exists):
            await self.replacement.never_ran("its pod was deleted", pod)
            return True
        if pod is not None and self._has_no_machine:
            self.life.pod_starts.runs(self.me)
            await self.replacement.elsewhere("its pod can be made now")
            return True
        return False

    async def _is_given_up(self, pod: PodView | None, version: int) -> bool:
        """Wait a while longer for a pod that does not run yet. True if the wait is over and something else was done."""
        if pod is not None and self._is_passed_over(pod):
            await self.replacement.elsewhere("the scheduler gave the free GPU to another pod")
            return True
        match await self.late_pod.turn(pod, version):
            case "TemplateEdited":
                self.me.retry.in_vain = 0
                await self.replacement.again("jobTemplate was edited", keep_machine=self.me.place.settled)
            case "MachineEdited":
                self.me.retry.in_vain = 0
                await self.replacement.again("the SpotInstanceVM was edited", keep_machine=False)
            case "TooLate":
                await self.replacement.too_late(pod, self.late_pod.reading.busy)
            case "Waits":
                return False
        return not self._has_no_machine

    def _is_passed_over(self, pod: PodView) -> bool:
        """True if the scheduler gave the free GPU to another pod.

        If it has not looked at the pod yet, it is late for all, as when many jobs start at once. A VM that is bought
        meanwhile would get its pod no sooner.
        """
        if not self.me.place.candidates or self.me.deadline is None or workflow.now() < self.me.deadline:
            return False
        if pod.waiting_reason == UNSCHEDULABLE or not patched("late-scheduler"):
            return True
        wait = self.state.timings.schedule_wait
        if workflow.now() >= self.me.since + timedelta(seconds=LATE_SCHEDULER * wait):
            return True
        self.me.deadline = self.job.after(wait)
        return False

    @property
    def _has_no_machine(self) -> bool:
        """True if its Job waits without a machine until its pod can be made."""
        return self.me.phase == "Starting" and self.me.place.is_open

    async def _await_news(self, version: int, deadline: datetime) -> None:
        seen = self.life.news_since(version)
        changed = await self.life.until(
            lambda: self.me.run.view_version != seen or self.life.machine_lost(),
            min(deadline, self.job.next_check()),
            f"replica {self.me.index}: {self.me.message}",
        )
        if not changed:
            await self.life.observe("nothing was heard of it")

    def _read(self, pod: PodView | None) -> Startup:
        restored = self.me.run.restore is not None and self.me.run.restore.kind == "Image"
        found = startup(pod, restored=restored)
        if pod is None or found != "InitFailed" or patched("init-failed"):
            return found
        return startup(pod.model_copy(update={"ends": []}), restored=restored)  # as earlier releases read it

    def _settle(self) -> None:
        """Take over the nodes that the scheduler has chosen among those with a free GPU."""
        if len(self.me.run.nodes) == len(self.me.members) and self.me.place.candidates:
            self.me.place.settle(self.me.run.nodes)
            self.me.deadline = self.job.after(self.state.timings.startup_deadline)

    async def _create_job(self) -> bool:
        """Create the Job. False if it has to run elsewhere, or if it already does since a reset of the workflow."""
        if self._has_no_machine:
            await self.life.observe("can its pod be made?")
        if self._has_no_machine or self.me.run.pinned:
            return True  # the Job existed before its machine
        try:
            view = await self.incarnation.create()
        except ActivityError as error:
            reason, message = explain(error)
            if reason == errors.BUSY:
                await self.replacement.elsewhere(message)
                return False
            if reason == errors.ROOM_TAKEN:
                await self._await_room(self.room.taken(message))
                return False
            raise
        known = {*self.me.place.nodes, *self.me.place.candidates}
        elsewhere = {member: pod.node for member, pod in view.pods.items() if pod.node and pod.node not in known}
        if not elsewhere:
            return True
        self.life.replace("it runs elsewhere since its workflow was reset", machine_stays=True)
        if self.me.recovery:
            self.me.recovery.olds[-1].move_to(elsewhere)
        return False

    async def _still_no_room(self) -> bool:
        """True if the room is still missing. The pod is read first, because the bridge's last report may be old."""
        await self.life.observe("its VM is about to be released")
        return self.room.is_missing(self.life.lagging_pod)

    async def _await_room(self, lack: Lack) -> None:
        """Back off until the pods of others are gone, or until the machine is released."""
        if self.room.is_late:
            await self.replacement.no_room(lack)
            return
        self.life.back_off(self.me.message)
        self.me.retry.at = min(self.me.retry.at or self.room.deadline, self.room.deadline)

    def _started(self, pod: PodView | None) -> None:
        self.me.run.running_since = (pod.started_at if pod else None) or workflow.now()
        self.me.place.move_to(self.me.run.nodes)
        self.me.place.candidates = []
        lost = self.state.ledger.begin(
            IncarnationRecord(
                replica=self.me.index,
                incarnation=self.me.incarnation,
                node=self.me.place.listed,
                restored_from=self.me.run.restore.label if self.me.run.restore else None,
                started_at=self.me.run.running_since,
                begins_at=self.me.run.base_seconds,
            )
        )
        recovery, self.me.recovery = self.me.recovery, None
        if lost is not None:
            self.job.measure(metrics.LOST_TRAINING, lost)
        if recovery is not None:
            self._measure(recovery, self.me.run.running_since)
        if recovery is not None and recovery.node_ready_at is not None and self.me.place.is_gang:
            self.me.place.restart_seconds = (self.me.run.running_since - recovery.node_ready_at).total_seconds()
        if len(self.me.members) == self.job.spec.members:
            self.me.place.spare_losses, self.me.place.spare_at = 0, None
        self.me.retry.ran()
        self.me.place.avoid, self.me.ran = [], True
        self.room.found()
        self.life.pod_starts.runs(self.me)
        if self.me.run.restore:
            if self.me.run.restore.kind == "Image":  # a published checkpoint is only offered to the training
                self.me.run.to_prove = patched("own-ends")
                if not self.me.run.to_prove:
                    self.restore_points.proven(self.me.run.restore)
            self.job.event(
                events.RESTORED,
                f"replica {self.me.index} runs on {self.me.place.names} "
                f"from progress {self.me.run.restore.progress:.0f}"
                + (f", {self._seconds_since(recovery):.1f} s after {recovery.cause}" if recovery else ""),
            )
        else:
            self.job.event(events.STARTED, f"replica {self.me.index} runs on {self.me.place.names} from the beginning")
        self.life.enter("Running", self._of_all())

    def _of_all(self) -> str:
        """Say that the others are looked for, if it is a gang that has started with fewer members than it may have."""
        size, most = len(self.me.members), self.job.spec.members
        others = "machines for the others are being bought" if self.me.place.bought else "free GPUs are looked for"
        return f"{size} of {most} members: {others}" if size < most else ""

    def _measure(self, recovery: Recovery, running_since: datetime) -> None:
        took = {"all": running_since - recovery.noticed_at}
        if recovery.node_ready_at is not None:
            took["machine"] = recovery.node_ready_at - recovery.noticed_at
            took["training"] = running_since - recovery.node_ready_at
        for phase, time in took.items():
            self.job.measure(metrics.RECOVERY, time.total_seconds(), phase=phase)

    def _seconds_since(self, recovery: Recovery) -> float:
        return (workflow.now() - recovery.noticed_at).total_seconds()
