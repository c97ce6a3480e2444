"""Faults of checkpoints, and of what stores them: the registry and the bucket."""

from datetime import timedelta

from tests.chaos.faults.grammar import REPLICA, Args, Kinds
from tests.chaos.stage import Stage
from tests.workflows.checkpoints import TRAPS

KINDS = Kinds()


@KINDS.once(weight=4, plan=list(TRAPS), count=[1, 1, 2])
def trap(stage: Stage, args: Args) -> None:
    """Play a trap of the checkpoint operator on the next checkpoints."""
    stage.world.checkpoints.plans += [str(args["plan"])] * int(args["count"])


@KINDS.once(weight=1, seconds=[20, 100, 400])
def operator_busy(stage: Stage, args: Args) -> None:
    """Occupy the nodes with another job's checkpoint."""
    stage.world.checkpoints.busy_until = stage.world.clock.now + timedelta(seconds=int(args["seconds"]))


@KINDS.lasting(weight=1, days=1, by=[40, 90])
def slow_dumps(stage: Stage) -> None:
    """Let dumps take longer."""
    stage.world.checkpoints.dump_seconds = max(stage.said("slow_dumps", "by"), default=8)


@KINDS.once(weight=1)
def image_broken(stage: Stage, args: Args) -> None:
    """Let the newest image start on no node."""
    for image in list(stage.world.checkpoints.registry)[-1:]:
        stage.world.cluster.bad[image] = "RunContainerError: CRIU could not restore it"


@KINDS.lasting(days=4)
def registry_down(stage: Stage) -> None:
    """Let the registry give the kubelets nothing, and us no answer."""
    set_registry(stage)


@KINDS.lasting(weight=1, days=4)
def operator_away(stage: Stage) -> None:
    """Let nobody carry out a CheckpointBackup."""
    set_registry(stage)


def set_registry(stage: Stage) -> None:
    """Set who gets what of the registry, and what becomes of checkpoints, by all present faults."""
    down, refused, away = (bool(stage.of(kind)) for kind in ("registry_down", "registry_key_lost", "operator_away"))
    stage.world.checkpoints.registry_down = down
    stage.world.cluster.registry_down = down or refused
    stage.world.checkpoints.every_plan = "ignored" if away else "fail" if down or refused else ""


@KINDS.lasting(weight=1, days=3)
def bucket_down(stage: Stage) -> None:
    """Let the bucket not answer."""
    stage.world.bucket.down = bool(stage.of("bucket_down"))


@KINDS.once(weight=1, replica=REPLICA)
def saved_in_part(stage: Stage, args: Args) -> None:
    """Kill a training while it saves itself."""
    job = stage.job(int(args["replica"]))
    if job is not None and job.request.storage is not None:
        stage.world.bucket.save(job, complete=False)


@KINDS.lasting(weight=1, days=2)
def deletes_no_image(stage: Stage) -> None:
    """Let the registry delete nothing."""
    stage.world.checkpoints.deletes_nothing = bool(stage.of("deletes_no_image"))


@KINDS.once(weight=1, replica=REPLICA)
def saves_itself(stage: Stage, args: Args) -> None:
    """Let a training in mode Application save itself, as it does from time to time."""
    job = stage.job(int(args["replica"]))
    if job is not None and job.request.storage is not None and job in stage.world.cluster.training():
        stage.world.bucket.save(job)
