"""What people do meanwhile."""

from api.messages import Resize
from tests.chaos.faults.grammar import Args, Kinds
from tests.chaos.stage import Stage

KINDS = Kinds()


@KINDS.once(weight=2, after=[20, 90, 300])
def suspend(stage: Stage, args: Args) -> None:
    """Suspend, and resume a while later."""
    stage.tell("suspend")
    stage.world.clock.after(float(args["after"]), lambda: stage.tell("resume"))


@KINDS.once(weight=2)
def checkpoint_now(stage: Stage, args: Args) -> None:
    """A checkpoint is wanted."""
    stage.tell("checkpoint_now")


@KINDS.once(weight=2, replicas=[1, 2, 3])
def resize(stage: Stage, args: Args) -> None:
    """Another number of replicas."""
    stage.tell("resize", Resize(replicas=int(args["replicas"])))


@KINDS.once(weight=1, minutes=[1, 5, 20])
def interval(stage: Stage, args: Args) -> None:
    """The checkpoint interval is edited."""
    stage.world.documents.edit(checkpoint={"checkpoint_interval": f"{args['minutes']}m"})


@KINDS.once(weight=1)
def delete(stage: Stage, args: Args) -> None:
    """kubectl delete."""
    stage.delete()
