"""The world's bucket: checkpoints that trainings in mode Application have published, complete or cut short."""

from dataclasses import dataclass

from temporalio.exceptions import ApplicationError

from activities import signatures as act
from api import errors
from api.report import JobReport
from api.storage import incarnation_prefix
from api.views import RestorePoint
from tests.workflows.cluster import Cluster
from tests.workflows.cluster_objects import Job


@dataclass
class Saved:
    """A checkpoint in the bucket."""

    path: str
    progress: float
    complete: bool = True
    fits: list[int] | None = None  # how many machines may load it; None for any number


class Bucket:
    """All checkpoints of trainings. A training saves itself on SIGTERM if it knows a bucket and lives long enough."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.saved: list[Saved] = []
        self.down = False
        self.save_on_sigterm = True
        self.outputs: list[act.SaveOutputs] = []  # the requests of all calls
        self.reports: list[JobReport] = []
        self.output_calls = 1  # how many calls are needed until all is uploaded
        self.output_files = 3
        self.no_layer = False  # the container runtime is one that we do not know
        cluster.on_sigterm = self._on_sigterm

    # --- activities

    def find_stored(self, request: act.FindStored) -> act.FoundStored:
        if self.down:
            raise RuntimeError("the bucket does not answer")
        known = [each for each in self.saved if each.path not in request.avoid]
        fits = [each for each in known if each.complete and (each.fits is None or request.machines in each.fits)]
        best = max(fits, key=lambda each: each.progress, default=None)
        point = best and RestorePoint(
            kind="Storage", path=best.path, progress=best.progress, reported=True, created_at=self.cluster.clock.now
        )
        return act.FoundStored(point=point, passed_over=[each.path for each in known if not each.complete])

    def write_report(self, request: act.WriteReport) -> act.WrittenReport:
        if self.down:
            raise RuntimeError("the bucket does not answer")
        self.reports.append(request.report)
        return act.WrittenReport(location="gs://b/report.json")

    def save_outputs(self, request: act.SaveOutputs) -> act.SavedOutputs:
        job, node = self.cluster.jobs[request.ref.replica, request.ref.incarnation], request.vm.name
        if node not in self.cluster.nodes or not self.cluster.nodes[node].alive:
            raise ApplicationError(f"VM {node} is gone", type=errors.MISSING, non_retryable=True)
        assert job.pods.get(request.member or 0) is not None, "its layer goes with its pod"
        self.outputs.append(request)
        if self.down:
            raise RuntimeError("the bucket does not answer")
        if self.no_layer:
            raise ApplicationError("no layer", type=errors.UNSUPPORTED, non_retryable=True)
        done = len(self.outputs) >= self.output_calls
        below = "" if request.member is None else f"/m{request.member}"
        return act.SavedOutputs(done=done, files=self.output_files, total_bytes=7, location=f"team/outputs/r0{below}")

    # --- what happens

    def save(self, job: Job, *, complete: bool = True, progress: float | None = None) -> Saved:
        """Let a training save itself, if it knows a bucket."""
        request = job.request
        assert request.storage is not None
        held = float(int(self.cluster.progress(job) if progress is None else progress))
        prefix = incarnation_prefix(request.storage, request.job.job_id, request.replica, request.incarnation)
        saved = Saved(f"{prefix}/step-{held:.0f}", held, complete)
        self.saved.append(saved)
        self.cluster.held[saved.path] = held
        return saved

    def _on_sigterm(self, job: Job) -> None:
        if job.request.storage is not None and self.save_on_sigterm and job.pods and job.trains:
            self.save(job)
