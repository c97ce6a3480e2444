"""What people do meanwhile."""

from api.messages import Resize
from tests.chaos.faults.cloud import ZONES
from tests.chaos.faults.grammar import Args, Kinds
from tests.chaos.stage import Stage

KINDS = Kinds()


@KINDS.once(weight=2, days=2, after=[20, 90, 300])
def suspend(stage: Stage, args: Args) -> None:
    """Suspend, and resume a while later."""
    stage.tell("suspend")
    stage.world.clock.after(float(args["after"]), lambda: stage.tell("resume"))


@KINDS.once(weight=2)
def checkpoint_now(stage: Stage, args: Args) -> None:
    """Request a checkpoint."""
    stage.tell("checkpoint_now")


@KINDS.once(weight=2, replicas=[1, 2, 3])
def resize(stage: Stage, args: Args) -> None:
    """Set another number of replicas; a gang is the only one of its job."""
    if stage.members == 1:
        stage.tell("resize", Resize(replicas=int(args["replicas"])))


@KINDS.once(weight=1, minutes=[1, 5, 20])
def interval(stage: Stage, args: Args) -> None:
    """Edit the checkpoint interval."""
    stage.world.documents.edit(checkpoint={"checkpoint_interval": f"{args['minutes']}m"})


@KINDS.once(weight=1, zones=[1, 2])
def vm_edited(stage: Stage, args: Args) -> None:
    """Let the SpotInstanceVM allow another zone, or only its own."""
    spec = stage.world.documents.vm_spec
    assert spec is not None
    gcp = spec.gcp.model_copy(update={"zones": ZONES[1 : int(args["zones"])]})
    stage.world.documents.edit_vm(spec.model_copy(update={"gcp": gcp}))


@KINDS.once(weight=1)
def delete(stage: Stage, args: Args) -> None:
    """Delete the object, as kubectl does."""
    stage.delete()
