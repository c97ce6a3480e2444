"""The replica of which a checkpoint is made, and the one whose checkpoint a recovery waits for."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from workflows.job.checkpoints.policy.survivor import source_for_checkpoint
from workflows.job.state.checkpoint import Checkpoint
from workflows.job.state.job import JobState
from workflows.job.state.replica import Replica


@dataclass(frozen=True)
class SurvivorChoice:
    """For whose checkpoint a recovery waits. If for none, it takes the restore points that exist."""

    replica: int | None = None
    """The survivor that is checkpointed now."""
    newest: bool = False
    """True if no survivor is healthy, so that the newest checkpoint under way is waited for."""


def takes_images(state: JobState) -> bool:
    """True in mode Image. In mode Application the training publishes its own checkpoints."""
    return state.spec is not None and state.spec.checkpoint_config.mode == "Image"


def paused(state: JobState, now: datetime) -> bool:
    """True while no training that goes on is checkpointed, because the last checkpoint killed its training."""
    return state.paused_until is not None and now < state.paused_until


def find_source(state: JobState, now: datetime, but: Collection[int | None] = ()) -> Replica | None:
    """Find the furthest healthy replica, other than those in ``but``; None if there is none."""
    replicas = [each for each in state.replicas.values() if each.index not in but and not each.proof]
    return source_for_checkpoint(replicas, state.nodes, state.notices, now)


def under_way(state: JobState) -> list[Checkpoint]:
    """Find the checkpoints that have not ended yet."""
    return [record for record in state.checkpoints.values() if record.outcome is None]


def under_way_on(state: JobState, replica: Replica) -> Checkpoint | None:
    """Find the checkpoint of this incarnation that has not ended yet; None if there is none."""
    mine = (replica.index, replica.incarnation)
    return next((one for one in under_way(state) if (one.replica, one.incarnation) == mine), None)


def source_lost(state: JobState, record: Checkpoint) -> bool:
    """True if the node under a checkpoint is gone. A notice is no loss yet: the dump may still end in time."""
    node = state.node(record.node)
    vms = [vm for vm in state.vms.values() if vm.report and vm.report.node_name == record.node]
    return (node is not None and not node.exists) or any(vm.dead for vm in vms)


def choose_survivor(
    state: JobState, asked: Collection[int], now: datetime, *, lost: int | None = None
) -> SurvivorChoice:
    """Choose the furthest survivor, if possible one that was not ``asked`` before, and never the replica ``lost``.

    A checkpoint pauses its source. So none is made if less training is unsaved than the last checkpoint took.
    """
    if not takes_images(state) or paused(state, now):
        return SurvivorChoice()
    survivor = find_source(state, now, but=[*asked, lost]) or find_source(state, now, but=[lost])
    if survivor is None:
        return SurvivorChoice(newest=True)
    if seconds_unsaved(survivor, now) < state.last_dump_seconds:
        return SurvivorChoice()
    return SurvivorChoice(replica=survivor.index)


def seconds_unsaved(replica: Replica, now: datetime) -> float:
    """Return the seconds of training that no image contains: since the last checkpoint, or since the restore."""
    restored = replica.run.running_since if replica.run.restore else None
    saved = [moment for moment in (replica.last_checkpoint_time, restored) if moment]
    return (now - max(saved)).total_seconds() if saved else float("inf")
