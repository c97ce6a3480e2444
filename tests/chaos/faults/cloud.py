"""Faults of the cloud: it lacks something or refuses it, and machines do not join."""

from api import errors
from tests.chaos.faults.grammar import Args, Kinds
from tests.chaos.stage import Stage

KINDS = Kinds()
ZONES = ["us-central1-a", "us-central1-b"]
EVERYWHERE = "everywhere"


@KINDS.once(count=[1, 3])
def stockouts(stage: Stage, args: Args) -> None:
    """Let so many creations fail later."""
    stage.world.cloud.stockouts += int(args["count"])


@KINDS.once(kind=[errors.NO_CAPACITY, errors.QUOTA, errors.PERMISSION], count=[1, 2])
def creations_refused(stage: Stage, args: Args) -> None:
    """Let so many creations fail at once."""
    stage.world.cloud.refuse_creates += [str(args["kind"])] * int(args["count"])


@KINDS.once(count=[2, 8])
def deletions_refused(stage: Stage, args: Args) -> None:
    """Refuse so many deletions."""
    stage.world.cloud.refuse_deletes += int(args["count"])


@KINDS.lasting(days=6, zone=[*ZONES, EVERYWHERE, EVERYWHERE])
def exhausted(stage: Stage) -> None:
    """Exhaust one zone, or all."""
    said = set(stage.said("exhausted", "zone"))
    stage.world.cloud.exhausted = set(ZONES) if EVERYWHERE in said else said


@KINDS.lasting(days=1, zone=ZONES)
def unclear(stage: Stage) -> None:
    """Let a zone give unclear answers."""
    stage.world.cloud.unclear = set(stage.said("unclear", "zone"))


@KINDS.once(count=[1, 3])
def joins_fail(stage: Stage, args: Args) -> None:
    """Let so many joins fail."""
    stage.world.machines.failing_joins += int(args["count"])


@KINDS.lasting(weight=1, days=2)
def ssh_closed(stage: Stage) -> None:
    """Let no machine answer by SSH."""
    stage.world.machines.ssh_closed = bool(stage.of("ssh_closed"))
