"""What of a dying replica's work can still be saved: by a dump of the replica itself, beside the survivor's.

The survivor's is asked for in the same moment, not once the other has failed: machines of one zone tend to go
together, and a survivor that has its own notice a minute later would leave nothing. Both run at once, each on its own
node.
"""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.policy.notice import SOFT_OFF, fits, last_moment, once_more, wait_until
    from workflows.policy.progress import lineage_seconds
    from workflows.policy.survivor import trains

from workflows.checkpointing import Checkpointing
from workflows.job import Job
from workflows.state import Checkpoint, Notice, Old, Recovery, Replica

MAX_TRIES = 2
NOTICE = "Notice"  # why the first dump of a dying replica is made


class Rescue:
    """The checkpoints that a recovery waits for: the dying replica's own, and a survivor's."""

    def __init__(self, job: Job, checkpointing: Checkpointing) -> None:
        self.job = job
        self.state = job.state
        self.checkpointing = checkpointing

    def dump_the_dying(self, me: Replica, recovery: Recovery) -> None:
        """Checkpoint the replica itself where its notice leaves the time; before anything of it is forgotten."""
        notice = self.state.notices.get(me.node or "")
        if notice is None or not self.checkpointing.takes_images or not (me.live and trains(me, self.state.nodes)):
            return
        if self.checkpointing.under_way_on(me) is None and not self._fits(me, notice):
            return
        record = self.checkpointing.request(me, NOTICE)
        record.ends_at = notice.ends_at + SOFT_OFF if notice.ends_at else None
        recovery.own = record.number
        self.watch(me, recovery)

    def watch(self, me: Replica, recovery: Recovery) -> None:
        """See to its last dump; also in a later run of the workflow, which finds the recovery under way."""
        own = self.state.checkpoints.get(recovery.own or -1)
        if own is not None and own.ends_at is not None and recovery.last is None:
            self.job.spawn(self._wait_for_the_last_moment(me, recovery, own.ends_at), f"last dump of {me.index}")

    def _fits(self, me: Replica, notice: Notice) -> bool:
        left = (notice.ends_at - workflow.now()).total_seconds() if notice.ends_at else None
        enough, why = fits(left, self.state.recent_dumps, survivor=self.checkpointing.source() is not None)
        if enough:
            self.job.event("NoticeUsed", f"replica {me.index} is checkpointed itself: {why}")
        elif left is not None and left > 0:
            self.job.event("NoticeTooShort", f"replica {me.index} is not checkpointed itself: {why}")
        return enough

    def ask_again(self, failed: Checkpoint) -> None:
        """A dying replica's dump that failed is asked for once more, in the same moment, where that still fits."""
        recoveries = [replica.recovery for replica in self.state.replicas.values() if replica.recovery]
        waiting = [recovery for recovery in recoveries if recovery.own == failed.number]
        if (
            not waiting
            or failed.reason != NOTICE
            or failed.ends_at is None
            or self.checkpointing.following.source_lost(failed)
        ):
            return
        left = (failed.ends_at - SOFT_OFF - workflow.now()).total_seconds()
        if not fits(left, self.state.recent_dumps, survivor=False)[0]:
            return
        again = self._another(failed, "NoticeAgain")
        for recovery in waiting:
            recovery.own = again.number

    def _another(self, one: Checkpoint, reason: str) -> Checkpoint:
        """Of the same incarnation: by that record, for nothing else is known of the replica any more."""
        trained = one.lineage_seconds + _seconds_since(one)
        source = one.model_copy(update={"lineage_seconds": trained})
        return self.checkpointing.begin(source, reason, ends_at=one.ends_at)

    async def _wait_for_the_last_moment(self, me: Replica, recovery: Recovery, gone_at: datetime) -> None:
        """The replica trains on after its dump: as late as the notice allows it is dumped once more."""

        def over() -> bool:
            replaced = me.recovery is not recovery or recovery.node_ready_at is not None
            return replaced or me.halt is not None or self.job.ending

        await self.job.until(lambda: over() or self.saved(recovery), gone_at, "the dying replica's checkpoint")
        moment = last_moment(gone_at - SOFT_OFF, self.state.recent_dumps)
        if self.saved(recovery) and not await self.job.until(over, moment, "the last moment to checkpoint it again"):
            self.dump_once_more(me, recovery)

    def dump_once_more(self, me: Replica, recovery: Recovery) -> None:
        """Checkpoint what a dying replica has trained since its dump, where that is worth it and still fits; once."""
        own = self.state.checkpoints.get(recovery.own or -1)
        if recovery.last is not None or own is None or own.outcome != "Usable" or own.ends_at is None:
            return
        if self.checkpointing.following.source_lost(own) or not any(_trains(old, own) for old in recovery.olds):
            return
        left, gain = (own.ends_at - SOFT_OFF - workflow.now()).total_seconds(), self._gain(own)
        if once_more(left, self.state.recent_dumps, gain, awaited=recovery.node_ready_at is not None):
            self.job.event("NoticeUsed", f"replica {me.index} is checkpointed once more: {gain:.0f} s later")
            recovery.last = self._another(own, "NoticeLast").number

    def _gain(self, own: Checkpoint) -> float:
        """Seconds of training since its dump that neither it nor a survivor, which trains on, holds."""
        since, survivor = _seconds_since(own), self.checkpointing.source()
        if survivor is None:
            return since
        return min(since, own.lineage_seconds + since - lineage_seconds(survivor, workflow.now()))

    def settled(self, recovery: Recovery) -> bool:
        """Nothing is under way any more that would be worth waiting for."""
        return workflow.now() >= self.patience(recovery)

    def patience(self, recovery: Recovery) -> datetime:
        """Until when to wait for what is under way. Each has deadlines of its own: none is waited for without end."""
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
        """All that the dying replica can leave behind is in an image: what it trains from now on is trained twice."""
        own = self.state.checkpoints.get(recovery.own or -1)
        return own is not None and own.outcome == "Usable"

    def to_be_tried_again(self, recovery: Recovery) -> bool:
        """The survivor's failed, and there is one to ask once more."""
        failed = self.checkpointing.failed(recovery) and recovery.checkpoint_tries < MAX_TRIES
        return failed and not self.saved(recovery) and self.checkpointing.source() is not None

    def waits_for(self, recovery: Recovery) -> str:
        """Numbers of those that are under way, for people."""
        numbers = sorted(record.number for record in self._records(recovery) if record.outcome is None)
        return " and ".join(f"checkpoint {number}" for number in numbers)

    def _records(self, recovery: Recovery) -> list[Checkpoint]:
        numbers = {recovery.own, recovery.last, recovery.checkpoint}
        return [record for number, record in self.state.checkpoints.items() if number in numbers]


def _seconds_since(record: Checkpoint) -> float:
    return (workflow.now() - record.requested_at).total_seconds()


def _trains(old: Old, own: Checkpoint) -> bool:
    """That incarnation, as far as is known: its pod neither ended nor is it being stopped."""
    if old.incarnation != own.incarnation or old.stopped or old.asked_to_stop:
        return False
    pod = old.view.pod if old.view else None
    return pod is not None and pod.phase == "Running" and not pod.deleting
