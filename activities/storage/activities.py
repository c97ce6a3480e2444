"""The activity that finds a training's own checkpoints in ``checkpointStorage``."""

from datetime import UTC, datetime

from temporalio import activity

from activities.cloud_errors import CloudError, to_application_error
from activities.signatures import FIND_STORED, FindStored, FoundStored
from activities.storage import Buckets
from activities.storage.finding import furthest_complete
from api.storage import INCARNATION, as_prefix, checkpoints_prefix
from api.views import RestorePoint

TOLD = 5
"""Number of skipped checkpoints that are named."""


class StorageActivities:
    """Reads buckets, and writes nothing there."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    @activity.defn(name=FIND_STORED.name)
    async def find_stored(self, request: FindStored) -> FoundStored:
        """Find the furthest complete checkpoint of this job, else of the place to which ``restoreFrom`` points."""
        ours = checkpoints_prefix(request.storage, request.job.job_id)
        prefixes = [ours, *([as_prefix(request.restore_from)] if request.restore_from else [])]
        passed_over: list[str] = []
        try:
            bucket = await self._buckets.open(request.storage, request.cloud, request.job.namespace)
            for prefix in prefixes:
                found = await furthest_complete(
                    bucket, prefix, request.avoid, layout=request.storage.layout, machines=request.machines
                )
                passed_over += found.passed_over
                if found.path is not None:
                    return FoundStored(
                        point=RestorePoint(
                            kind="Storage",
                            path=found.path,
                            progress=found.progress,
                            reported=True,
                            lineage=_lineage(found.path.removeprefix(f"{ours}/")),
                            created_at=datetime.now(UTC),
                        ),
                        passed_over=passed_over[-TOLD:],
                    )
        except CloudError as error:
            raise to_application_error(error) from error
        return FoundStored(point=None, passed_over=passed_over[-TOLD:])


def _lineage(below: str) -> str:
    """Read the lineage: ``r0-i3/step-100`` gives ``0.3``; empty for somebody else's prefix."""
    found = INCARNATION.fullmatch(below.partition("/")[0])
    return f"{found[1]}.{found[2]}" if found else ""
