"""The steps of a spot return: which one is next, and when it begins."""

from datetime import datetime, timedelta
from typing import Literal

from workflows.job.state.checkpoint import Checkpoint
from workflows.job.state.replica import Replica
from workflows.job.state.vm import Vm

Step = Literal["Reserve", "Checkpoint", "Move", "GiveUp"]


def next_step(
    replica: Replica, on: Vm | None, reserved: Vm | None, checkpoint: Checkpoint | None, now: datetime, *, images: bool
) -> Step | None:
    """Decide the next step of a replica's spot return; None if there is nothing to do now.

    Args:
        replica: The replica.
        on: The VM on which it runs.
        reserved: The spot VM that is bought for it.
        checkpoint: The checkpoint with which it moves.
        now: The present time.
        images: Whether checkpoints are images. In mode Application it moves without one.
    """
    if replica.phase != "Running" or replica.halt or replica.spot_return.moving or on is None or not on.runs_on_demand:
        return None
    if replica.spot_return.reserved is None:
        due = replica.spot_return.at
        return "Reserve" if due is not None and now >= due else None
    if reserved is None or reserved.released or reserved.failed or reserved.superseded:
        return "GiveUp"
    if not reserved.ready:
        return None
    if not images:
        return "Move"
    if replica.spot_return.checkpoint is None:
        return "Checkpoint"
    if checkpoint is None or checkpoint.outcome == "Failed":
        return "GiveUp"
    return "Move" if checkpoint.outcome == "Usable" else None


def return_time(replica: Replica, on: Vm | None, wait: timedelta) -> datetime | None:
    """Return when to look for a spot VM for a replica that runs on-demand; None if it does not."""
    if replica.phase != "Running" or replica.halt or replica.spot_return.moving:
        return None
    if on is None or not on.runs_on_demand or replica.run.running_since is None:
        return None
    return replica.spot_return.at or replica.run.running_since + wait
