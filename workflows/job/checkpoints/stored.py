"""Restore points of kind Storage: the checkpoints that trainings have published, in mode Application.

Only the bucket knows which exist, so it is read each time. The state keeps only which of them did not start.
"""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import events
    from api.views import RestorePoint
    from workflows.job.checkpoints.policy.restore import usable

from workflows.common.calls import call
from workflows.job.core.job import Job

POINTS_KEPT = 20
"""How many published checkpoints the state remembers."""


async def find_stored(job: Job, *, machines: int | None = None, report: bool = True) -> RestorePoint | None:
    """Find the furthest complete checkpoint that may still work; None if there is none.

    With ``report`` an Event names the checkpoints that were skipped. ``machines`` are to load it: by default as many as
    the spec has at most.

    Raises:
        ActivityError: The bucket did not answer. A recovery waits for it rather than start from the beginning.
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
        machines=machines or job.spec.members,
    )
    found = await call(act.FIND_STORED, request, summary="find published checkpoints in the bucket")
    if found.passed_over and report:
        job.event(events.CHECKPOINT_PASSED_OVER, f"not complete: {'; '.join(found.passed_over)}")
    if found.point is None:
        return None
    state.ever_checkpointed = True
    known = [point for point in state.points if point.path == found.point.path]
    if known:
        return known[0]
    state.points = [*state.points, found.point][-POINTS_KEPT:]
    return found.point
