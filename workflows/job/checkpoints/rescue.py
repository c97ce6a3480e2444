"""The rescue: the checkpoint of a dying replica itself, beside that of a survivor.

Both are requested at once, and each runs on its own node. If the survivor's were requested only after the rescue had
failed, it might come too late: machines of one zone tend to go together, and the survivor may have its own notice by
then.
"""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import events
    from workflows.job.checkpoints.policy.progress import training_time
    from workflows.job.checkpoints.policy.rescue import NOTICE, RescuePlan
    from workflows.job.checkpoints.policy.source import find_source, source_lost
    from workflows.policy.notice import SOFT_OFF, last_moment, once_more, wait_until

from workflows.job.checkpoints.backups import Backups
from workflows.job.core.job import Job
from workflows.job.state.checkpoint import Checkpoint
from workflows.job.state.replica import Old, Recovery, Replica

MAX_ATTEMPTS = 2
"""How often a survivor is checkpointed for one recovery."""


class Rescue:
    """Makes the rescues of one job, and says how long a recovery waits for its checkpoints."""

    def __init__(self, job: Job, backups: Backups) -> None:
        self.job = job
        self.state = job.state
        self.backups = backups

    def begin(self, me: Replica, recovery: Recovery, plan: RescuePlan) -> None:
        """Begin the rescue if one is planned, and report the decision."""
        if plan.reason:
            not_ = "" if plan.made else "not "
            self.job.event(plan.reason, f"replica {me.index} is {not_}checkpointed itself: {plan.why}")
        if not plan.made:
            return
        record = self.backups.request(me, NOTICE)
        record.ends_at = plan.ends_at
        recovery.own = record.number
        self.watch(me, recovery)

    def watch(self, me: Replica, recovery: Recovery) -> None:
        """Plan the second rescue of a recovery that has begun, perhaps in an earlier run of the workflow."""
        own = self.state.checkpoint(recovery.own)
        if own is not None and own.ends_at is not None and recovery.last is None:
            self.job.spawn(self._wait_for_the_last_moment(me, recovery, own.ends_at), f"second rescue of {me.index}")

    async def _wait_for_the_last_moment(self, me: Replica, recovery: Recovery, gone_at: datetime) -> None:
        """Rescue the replica a second time, as late as its notice allows: it trains on after the first."""

        def over() -> bool:
            replaced = me.recovery is not recovery or recovery.node_ready_at is not None
            return replaced or me.halt is not None or self.job.ending

        await self.job.until(lambda: over() or self.saved(recovery), gone_at, "the rescue")
        moment = last_moment(gone_at - SOFT_OFF, self.state.recent_dumps)
        if self.saved(recovery) and not await self.job.until(over, moment, "the last moment for a second rescue"):
            self.begin_second(me, recovery)

    def begin_second(self, me: Replica, recovery: Recovery) -> None:
        """Save once what a dying replica has trained since its rescue, if that is worth it and there is time."""
        own = self.state.checkpoint(recovery.own)
        if recovery.last is not None or own is None or own.outcome != "Usable" or own.ends_at is None:
            return
        if source_lost(self.state, own) or not any(_trains(old, own) for old in recovery.olds):
            return
        left, gain = (own.ends_at - SOFT_OFF - workflow.now()).total_seconds(), self._gain(own)
        if once_more(left, self.state.recent_dumps, gain, awaited=recovery.node_ready_at is not None):
            self.job.event(events.NOTICE_USED, f"replica {me.index} is checkpointed once more, {gain:.0f} s later")
            recovery.last = self.backups.again(own, "NoticeLast").number

    def _gain(self, own: Checkpoint) -> float:
        """Return the seconds of training since the rescue that neither its image nor a survivor has."""
        since, survivor = _seconds_since(own), find_source(self.state, workflow.now())
        if survivor is None:
            return since
        return min(since, own.lineage_seconds + since - training_time(survivor, workflow.now()))

    def settled(self, recovery: Recovery) -> bool:
        """True if no checkpoint is under way that is worth waiting for."""
        return workflow.now() >= self.waits_until(recovery)

    def waits_until(self, recovery: Recovery) -> datetime:
        """Return until when to wait for the checkpoints under way. Each has deadlines, so the wait is never endless."""
        now = workflow.now()
        records = self._records(recovery)
        pending = [record for record in records if record.outcome is None]
        saved = max((record.lineage_seconds for record in records if record.outcome == "Usable"), default=None)
        if saved is None:
            return self.job.after(self.state.timings.checkpoint_total) if pending else now
        usual = timedelta(seconds=max(self.state.recent_dumps, default=0))
        untils = [wait_until(now, one.requested_at + usual, one.lineage_seconds - saved) for one in pending]
        return max(untils, default=now)

    def saved(self, recovery: Recovery) -> bool:
        """True if the rescue has made an image. What the dying replica trains from then on is trained twice."""
        own = self.state.checkpoint(recovery.own)
        return own is not None and own.outcome == "Usable"

    def is_to_be_retried(self, recovery: Recovery) -> bool:
        """True if the survivor's checkpoint failed, and a survivor can be checkpointed once more."""
        record = self.state.checkpoint(recovery.checkpoint)
        failed = record is not None and record.outcome == "Failed" and recovery.checkpoint_tries < MAX_ATTEMPTS
        return failed and not self.saved(recovery) and find_source(self.state, workflow.now()) is not None

    def waits_for(self, recovery: Recovery) -> str:
        """Name the checkpoints that are under way, for people."""
        numbers = sorted(record.number for record in self._records(recovery) if record.outcome is None)
        return " and ".join(f"checkpoint {number}" for number in numbers)

    def _records(self, recovery: Recovery) -> list[Checkpoint]:
        numbers = {recovery.own, recovery.last, recovery.checkpoint}
        return [record for number, record in self.state.checkpoints.items() if number in numbers]


def _seconds_since(record: Checkpoint) -> float:
    return (workflow.now() - record.requested_at).total_seconds()


def _trains(old: Old, own: Checkpoint) -> bool:
    """True if the incarnation of that checkpoint still trains: its pod has not ended and is not being stopped."""
    if old.incarnation != own.incarnation or old.stopped or old.asked_to_stop:
        return False
    pod = old.view.only_pod if old.view else None
    return pod is not None and pod.phase == "Running" and not pod.deleting
