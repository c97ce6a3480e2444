"""Restore points of kind Storage: what the trainings of a job have saved by themselves, in mode Application.

The bucket alone knows what there is, so it is looked into each time; the state keeps only which of them did not start.
"""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.views import RestorePoint
    from workflows.policy.restore import usable

from workflows.calls import call
from workflows.job import Job

POINTS_KEPT = 20


async def find_stored(job: Job, *, tell: bool = True) -> RestorePoint | None:
    """The furthest complete checkpoint that may still work; ``tell`` people which others were passed over.

    Raises:
        ActivityError: the bucket did not answer; a recovery waits for it rather than begin anew.
    """
    state, config = job.state, job.spec.checkpoint_config
    if config.checkpoint_storage is None:
        return None  # the API server refuses mode Application without it
    request = act.FindStored(
        job=job.ref,
        storage=config.checkpoint_storage,
        cloud=job.spec.gcp_credentials_secret_ref,
        restore_from=config.restore_from,
        avoid=[point.path for point in state.points if point.path and not usable(point)],
    )
    found = await call(act.FIND_STORED, request, summary="look into the checkpoint storage")
    if found.passed_over and tell:
        job.event("CheckpointPassedOver", f"not complete: {'; '.join(found.passed_over)}")
    if found.point is None:
        return None
    state.ever_checkpointed = True
    known = [point for point in state.points if point.path == found.point.path]
    if known:
        return known[0]
    state.points = [*state.points, found.point][-POINTS_KEPT:]
    return found.point
