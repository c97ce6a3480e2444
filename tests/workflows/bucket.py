"""The world's bucket: what trainings in mode Application have saved of themselves, complete or cut short."""

from dataclasses import dataclass

from activities import signatures as act
from api.storage import incarnation_prefix
from api.views import RestorePoint
from tests.workflows.cluster import Cluster, Job


@dataclass
class Saved:
    """A checkpoint in the bucket."""

    path: str
    progress: float
    complete: bool = True


class Bucket:
    """All of them. A training saves itself on SIGTERM, where it is told of a bucket and lives long enough."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.saved: list[Saved] = []
        self.down = False
        self.save_on_sigterm = True
        cluster.on_sigterm = self._on_sigterm

    # --- activities

    def find_stored(self, request: act.FindStored) -> act.FoundStored:
        if self.down:
            raise RuntimeError("the bucket does not answer")
        known = [each for each in self.saved if each.path not in request.avoid]
        best = max((each for each in known if each.complete), key=lambda each: each.progress, default=None)
        point = best and RestorePoint(
            kind="Storage", path=best.path, progress=best.progress, reported=True, created_at=self.cluster.clock.now
        )
        return act.FoundStored(point=point, passed_over=[each.path for each in known if not each.complete])

    # --- what happens

    def save(self, job: Job, *, complete: bool = True, progress: float | None = None) -> Saved:
        """A training saves itself where it was told to."""
        request = job.request
        assert request.storage is not None
        held = float(int(self.cluster.progress(job) if progress is None else progress))
        prefix = incarnation_prefix(request.storage, request.job.job_id, request.replica, request.incarnation)
        saved = Saved(f"{prefix}/step-{held:.0f}", held, complete)
        self.saved.append(saved)
        self.cluster.held[saved.path] = held
        return saved

    def _on_sigterm(self, job: Job) -> None:
        runs = job.pod is not None and job.pod.started_at is not None and job.pod.stopped_at is None
        if job.request.storage is not None and self.save_on_sigterm and runs:
            self.save(job)
