"""The request for one incarnation of a replica: to create it, or to learn whether it would be admitted."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.views import RestorePoint

from workflows.common.patches import patched
from workflows.job.core.job import Job


def to_create(
    job: Job, replica: int, incarnation: int, *, nodes: list[str], bought: bool, restore: RestorePoint | None
) -> act.CreateReplica:
    """Describe an incarnation on one of ``nodes``, from ``restore`` or, if that is None, from the beginning."""
    return act.CreateReplica.of(
        job.ref,
        job.spec,
        replica=replica,
        incarnation=incarnation,
        nodes=nodes,
        bought=bought,
        restore=restore,
        probe_patience=_probe_patience(job),
        members=len(job.state.replicas[replica].members),
    )


def _probe_patience(job: Job) -> float:
    """Return the seconds for which the training's probes have to tolerate that a dump freezes it."""
    frozen = job.spec.checkpoint_config.mode == "Image" and patched("own-ends")
    return job.state.timings.checkpoint_step if frozen else 0
