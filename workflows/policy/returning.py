"""A replica that runs on-demand goes back to spot by steps; which one is next, from the state alone."""

from datetime import datetime, timedelta
from typing import Literal

from workflows.state import Checkpoint, Replica, Vm

Step = Literal["Reserve", "Checkpoint", "Move", "GiveUp"]


def next_step(
    replica: Replica, on: Vm | None, reserved: Vm | None, checkpoint: Checkpoint | None, now: datetime, *, images: bool
) -> Step | None:
    """``on`` is the VM that it runs on, ``reserved`` the spot VM bought for it; ``images``: checkpoints are images."""
    if replica.phase != "Running" or replica.halt or replica.moving or on is None or not on.runs_on_demand:
        return None
    if replica.reserved is None:
        due = replica.return_at
        return "Reserve" if due is not None and now >= due else None
    if reserved is None or reserved.released or reserved.failed or (reserved.outdated and reserved.sought):
        return "GiveUp"
    if reserved.report is None or reserved.report.stage != "Ready":
        return None
    if not images:
        return "Move"
    if replica.return_checkpoint is None:
        return "Checkpoint"
    if checkpoint is None or checkpoint.outcome == "Failed":
        return "GiveUp"
    return "Move" if checkpoint.outcome == "Usable" else None


def return_time(replica: Replica, on: Vm | None, wait: timedelta) -> datetime | None:
    """When spot is tried again for a replica that runs on-demand, None for one that does not."""
    if replica.phase != "Running" or replica.halt or replica.moving:
        return None
    if on is None or not on.runs_on_demand or replica.running_since is None:
        return None
    return replica.return_at or replica.running_since + wait
