"""Processes that were told to end before they were dumped: restored, they go on ending."""

from datetime import datetime

from workflows.state import Checkpoint, JobState

USUAL_GRACE = 30.0  # seconds: terminationGracePeriodSeconds, where a template does not say


def told_to_end(record: Checkpoint, state: JobState, now: datetime) -> bool:
    """Whether the process under a checkpoint that has just come to its end may have got a SIGTERM before the dump.

    When the dump itself was done nobody tells, so whatever took the process away until now is taken to have come first.
    """
    notice = state.notices.get(record.node or "")
    if notice is not None and notice.ends_at is not None and now >= notice.ends_at:
        return True
    replica = state.replicas.get(record.replica)
    olds = replica.recovery.olds if replica is not None and replica.recovery is not None else []
    views = [old.view for old in olds if old.incarnation == record.incarnation]
    if replica is not None and replica.live and replica.incarnation == record.incarnation:
        views.append(replica.view)
    pods = [view.pod for view in views if view is not None and view.pod is not None]
    return not any(pod.phase == "Running" and not pod.deleting and not pod.disrupted for pod in pods)


def ends_as_told(ran_seconds: float, grace_seconds: float, margin: float) -> bool:
    """Whether a pod restored from such an image ended by that SIGTERM: within the time that it was given then."""
    return ran_seconds <= (grace_seconds or USUAL_GRACE) + margin
