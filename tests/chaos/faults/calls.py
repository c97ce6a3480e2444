"""Calls that fail, signals that are lost, and the worker that dies."""

from tests.chaos.faults.grammar import Args, Kinds
from tests.chaos.stage import OUTAGES, Stage

KINDS = Kinds()

LONGEST_CALL = 60.0  # seconds until a call of a dead worker is made again
FROM_THE_BRIDGE = ["replica_changed", "node_changed", "checkpoint_changed", "preemption_notice"]


@KINDS.lasting(weight=4, what=sorted(OUTAGES))
def down(stage: Stage) -> None:
    """All calls to one of the systems fail."""


@KINDS.lasting(every=[2, 3, 7])
def answers_lost(stage: Stage) -> None:
    """Calls take effect, and every so-many-th answer is lost."""


@KINDS.lasting(every=[2, 3, 7])
def calls_fail(stage: Stage) -> None:
    """Every so-many-th call fails."""


@KINDS.lasting(every=[1, 3])
def calls_twice(stage: Stage) -> None:
    """Every so-many-th call takes effect twice."""


@KINDS.lasting(weight=3, kind=["all", *FROM_THE_BRIDGE])
def signals_lost(stage: Stage) -> None:
    """What the bridge tells is lost."""
    stage.world.bridge.lost = _kinds(stage, "signals_lost")


@KINDS.lasting(weight=3, kind=["all", *FROM_THE_BRIDGE])
def signals_late(stage: Stage) -> None:
    """What the bridge tells comes when this is over."""
    held = _kinds(stage, "signals_late")
    if not held:
        stage.world.bridge.let_go()
    stage.world.bridge.held = held


@KINDS.lasting()
def signals_twice(stage: Stage) -> None:
    """Everything is told twice."""
    stage.world.bridge.twice = bool(stage.of("signals_twice"))


def _kinds(stage: Stage, fault: str) -> set[str]:
    said = stage.said(fault, "kind")
    return set(FROM_THE_BRIDGE) if "all" in said else set(said)


@KINDS.once(weight=4)
def worker_killed(stage: Stage, args: Args) -> None:
    """The worker dies with all that it knew and was doing; another one replays the histories."""
    stage.worker_killed = True
    stage.ledger.trouble(begins=True)
    stage.world.clock.after(LONGEST_CALL, stage.note_trouble)
