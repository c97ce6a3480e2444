"""Calls fail, signals are lost, and the worker dies."""

from tests.chaos.faults.grammar import Args, Kinds
from tests.chaos.stage import OUTAGES, Stage

KINDS = Kinds()

LONGEST_CALL = 60.0  # seconds until a call of a dead worker is repeated
FROM_THE_BRIDGE = ["replica_changed", "node_changed", "checkpoint_changed", "preemption_notice"]


@KINDS.lasting(weight=4, days=12, what=sorted(OUTAGES))
def down(stage: Stage) -> None:
    """Let all calls to one of the systems fail."""


@KINDS.lasting(every=[2, 3, 7])
def answers_lost(stage: Stage) -> None:
    """Let calls take effect, and lose every so-many-th answer."""


@KINDS.lasting(days=1, every=[2, 3, 7])
def calls_fail(stage: Stage) -> None:
    """Let every so-many-th call fail."""


@KINDS.lasting(every=[1, 3])
def calls_twice(stage: Stage) -> None:
    """Let every so-many-th call take effect twice."""


@KINDS.lasting(weight=3, days=3, kind=["all", *FROM_THE_BRIDGE])
def signals_lost(stage: Stage) -> None:
    """Lose what the bridge reports."""
    stage.world.bridge.lost = _kinds(stage, "signals_lost")


@KINDS.lasting(weight=3, kind=["all", *FROM_THE_BRIDGE])
def signals_late(stage: Stage) -> None:
    """Delay what the bridge reports until this is over."""
    held = _kinds(stage, "signals_late")
    if not held:
        stage.world.bridge.let_go()
    stage.world.bridge.held = held


@KINDS.lasting()
def signals_twice(stage: Stage) -> None:
    """Deliver everything that the bridge reports twice."""
    stage.world.bridge.twice = bool(stage.of("signals_twice"))


def _kinds(stage: Stage, fault: str) -> set[str]:
    said = stage.said(fault, "kind")
    return set(FROM_THE_BRIDGE) if "all" in said else set(said)


@KINDS.once(weight=4)
def worker_killed(stage: Stage, args: Args) -> None:
    """Kill the worker with all that it knew and did. Another one replays the histories."""
    stage.worker_killed = True
    stage.ledger.disturbance(begins=True)
    stage.world.clock.after(LONGEST_CALL, stage.note_disturbance)
