"""Processes that received SIGTERM before they were dumped, and therefore end again after each restore."""

from datetime import datetime

from workflows.job.state.checkpoint import Checkpoint
from workflows.job.state.job import JobState

USUAL_GRACE = 30.0
"""The seconds of ``terminationGracePeriodSeconds`` if a template does not set it."""


def told_to_end(record: Checkpoint, state: JobState, now: datetime) -> bool:
    """True if the source of a checkpoint that has just ended may have received SIGTERM before the dump.

    Nobody says when the dump itself was done, so whatever took the process away by now may have come first.
    """
    notice = state.notice(record.node)
    if notice is not None and notice.ends_at is not None and now >= notice.ends_at:
        return True
    replica = state.replicas.get(record.replica)
    olds = replica.recovery.olds if replica is not None and replica.recovery is not None else []
    views = [old.view for old in olds if old.incarnation == record.incarnation]
    if replica is not None and replica.run.live and replica.incarnation == record.incarnation:
        views.append(replica.run.view)
    pods = [view.only_pod for view in views if view is not None]
    return not any(pod is not None and pod.undisturbed for pod in pods)


def ends_as_told(ran_seconds: float, grace_seconds: float, margin: float) -> bool:
    """True if a pod that was restored from such an image ended because of that SIGTERM: within its grace."""
    return ran_seconds <= (grace_seconds or USUAL_GRACE) + margin
