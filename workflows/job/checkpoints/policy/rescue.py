"""Whether a dying replica is rescued before its machine goes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from workflows.job.checkpoints.policy.source import find_source, source_lost, takes_images, under_way_on
from workflows.job.checkpoints.policy.survivor import trains
from workflows.job.state.checkpoint import Checkpoint
from workflows.job.state.job import JobState
from workflows.job.state.replica import Replica
from workflows.policy.notice import SOFT_OFF, fits

NOTICE = "Notice"
"""The reason of the first rescue of a dying replica."""


@dataclass(frozen=True)
class RescuePlan:
    """Whether a dying replica is rescued within its notice."""

    made: bool
    reason: Literal["", "NoticeUsed", "NoticeTooShort"]
    """The reason of the Event that reports it; empty if there is nothing to report."""
    why: str
    ends_at: datetime | None
    """When its machine is gone at the latest; None if unknown."""


def plan_rescue(state: JobState, replica: Replica, now: datetime) -> RescuePlan | None:
    """Decide whether to rescue a replica before its machine goes; None if that is impossible or without a notice."""
    notice = state.notice_to(replica)
    if notice is None or not takes_images(state) or not (replica.run.live and trains(replica, state.nodes)):
        return None
    gone_at = notice.ends_at + SOFT_OFF if notice.ends_at else None
    if under_way_on(state, replica) is not None:
        return RescuePlan(made=True, reason="", why="it is under way", ends_at=gone_at)
    left = (notice.ends_at - now).total_seconds() if notice.ends_at else None
    enough, why = fits(left, state.recent_dumps, survivor=find_source(state, now) is not None)
    if enough:
        return RescuePlan(made=True, reason="NoticeUsed", why=why, ends_at=gone_at)
    reason: Literal["", "NoticeTooShort"] = "NoticeTooShort" if left is not None and left > 0 else ""
    return RescuePlan(made=False, reason=reason, why=why, ends_at=gone_at)


def is_worth_retrying(state: JobState, failed: Checkpoint, now: datetime) -> bool:
    """True if a dying replica's first rescue has failed and can be repeated before its machine goes."""
    if failed.reason != NOTICE or failed.ends_at is None or source_lost(state, failed):
        return False
    left = (failed.ends_at - SOFT_OFF - now).total_seconds()
    return fits(left, state.recent_dumps, survivor=False)[0]
