"""Checkpoints, and what keeps them: the registry and the bucket."""

from datetime import timedelta

from tests.chaos.faults.grammar import REPLICA, Args, Kinds
from tests.chaos.stage import Stage

KINDS = Kinds()

TRAPS = [
    "stick:Checkpointing", "stick:ImageBuilding", "stick:ImagePushing", "ignored", "empty", "unpushed", "not-deleted",
    "fail", "slow", "gone",
]  # fmt: skip


@KINDS.once(weight=4, plan=TRAPS, count=[1, 1, 2])
def trap(stage: Stage, args: Args) -> None:
    """The checkpoint operator does with the next ones what it does with some."""
    stage.world.checkpoints.plans += [str(args["plan"])] * int(args["count"])


@KINDS.once(weight=1, seconds=[20, 100, 400])
def operator_busy(stage: Stage, args: Args) -> None:
    """Another job's checkpoint occupies the nodes."""
    stage.world.checkpoints.busy_until = stage.world.clock.now + timedelta(seconds=int(args["seconds"]))


@KINDS.lasting(weight=1, by=[40, 90])
def slow_dumps(stage: Stage) -> None:
    """Dumps take longer."""
    stage.world.checkpoints.dump_seconds = max(stage.said("slow_dumps", "by"), default=8)


@KINDS.once(weight=1)
def image_broken(stage: Stage, args: Args) -> None:
    """The image made last starts on no node."""
    for image in list(stage.world.checkpoints.registry)[-1:]:
        stage.world.cluster.bad[image] = "RunContainerError: CRIU could not restore it"


@KINDS.lasting()
def registry_down(stage: Stage) -> None:
    """The registry gives the kubelets nothing, and us no answer."""
    stage.world.cluster.registry_down = stage.world.checkpoints.registry_down = bool(stage.of("registry_down"))


@KINDS.lasting(weight=1)
def bucket_down(stage: Stage) -> None:
    """The bucket does not answer."""
    stage.world.bucket.down = bool(stage.of("bucket_down"))


@KINDS.once(weight=1, replica=REPLICA)
def saved_in_part(stage: Stage, args: Args) -> None:
    """A training that saves itself was killed while it did."""
    job = stage.job(int(args["replica"]))
    if job is not None and job.request.storage is not None:
        stage.world.bucket.save(job, complete=False)


@KINDS.lasting(weight=1)
def deletes_no_image(stage: Stage) -> None:
    """The registry deletes nothing."""
    stage.world.checkpoints.deletes_nothing = bool(stage.of("deletes_no_image"))


@KINDS.once(weight=1, replica=REPLICA)
def saves_itself(stage: Stage, args: Args) -> None:
    """A training in mode Application saves itself, as it does now and then."""
    job = stage.job(int(args["replica"]))
    if job is not None and job.request.storage is not None and job in stage.world.cluster.training():
        stage.world.bucket.save(job)
