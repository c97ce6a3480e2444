"""What of a dying replica's work can still be saved: by a dump of the replica itself, beside the survivor's.

The survivor's is asked for in the same moment, not once the other has failed: machines of one zone tend to go
together, and a survivor that has its own notice a minute later would leave nothing. Both run at once, each on its own
node.
"""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.checkpointing import Checkpointing
    from workflows.job import Job
    from workflows.policy.notice import SOFT_OFF, fits, wait_until
    from workflows.policy.survivor import trains
    from workflows.state import Checkpoint, Notice, Recovery, Replica

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
        if not waiting or failed.reason != NOTICE or failed.ends_at is None or self.checkpointing.source_lost(failed):
            return
        left = (failed.ends_at - SOFT_OFF - workflow.now()).total_seconds()
        if not fits(left, self.state.recent_dumps, survivor=False)[0]:
            return
        now = workflow.now()
        again = Checkpoint(  # by that record, for nothing else is known of the replica any more
            number=self.state.checkpoint_number + 1,
            replica=failed.replica,
            incarnation=failed.incarnation,
            node=failed.node,
            reason="NoticeAgain",
            requested_at=now,
            lineage_seconds=failed.lineage_seconds + (now - failed.requested_at).total_seconds(),
            reading=failed.reading,
            ends_at=failed.ends_at,
        )
        self.checkpointing.begin(again)
        for recovery in waiting:
            recovery.own = again.number

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
        numbers = {recovery.own, recovery.checkpoint}
        return [record for number, record in self.state.checkpoints.items() if number in numbers]
