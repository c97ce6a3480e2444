"""The cloud: what it has not, what it refuses, and machines that do not join."""

from api import errors
from tests.chaos.faults.grammar import Args, Kinds
from tests.chaos.stage import Stage

KINDS = Kinds()
ZONES = ["us-central1-a", "us-central1-b"]


@KINDS.once(count=[1, 3])
def stockouts(stage: Stage, args: Args) -> None:
    """So many creations fail later."""
    stage.world.cloud.stockouts += int(args["count"])


@KINDS.once(kind=[errors.NO_CAPACITY, errors.QUOTA, errors.PERMISSION], count=[1, 2])
def creations_refused(stage: Stage, args: Args) -> None:
    """So many creations fail at once."""
    stage.world.cloud.refuse_creates += [str(args["kind"])] * int(args["count"])


@KINDS.once(count=[2, 8])
def deletions_refused(stage: Stage, args: Args) -> None:
    """So many deletions are refused."""
    stage.world.cloud.refuse_deletes += int(args["count"])


@KINDS.lasting(zone=ZONES)
def exhausted(stage: Stage) -> None:
    """A zone has nothing."""
    stage.world.cloud.exhausted = set(stage.said("exhausted", "zone"))


@KINDS.lasting(zone=ZONES)
def unclear(stage: Stage) -> None:
    """A zone's answers say nothing."""
    stage.world.cloud.unclear = set(stage.said("unclear", "zone"))


@KINDS.once(count=[1, 3])
def joins_fail(stage: Stage, args: Args) -> None:
    """So many joins fail."""
    stage.world.machines.failing_joins += int(args["count"])


@KINDS.lasting(weight=1)
def ssh_closed(stage: Stage) -> None:
    """No machine answers."""
    stage.world.machines.ssh_closed = bool(stage.of("ssh_closed"))
