"""The job's logs, saved as its incarnations end, in its bucket if it has one. The status says where they are."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import conditions, events, reasons

from workflows.common.calls import call, explain
from workflows.common.patches import patched
from workflows.job.core.job import Job
from workflows.job.state.replica import Replica

LEAVE_BUCKET_ALONE = timedelta(minutes=10)
"""How long a bucket that did not accept a log is not tried again, so that no recovery waits for it."""


class Logs:
    """Saves the logs of one job, and writes the condition LogsSaved and each replica's ``log``."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state

    async def save(self, replica: Replica, ref: act.ReplicaRef) -> None:
        """Save an incarnation's log. A failure is only logged."""
        request = act.SaveLogs(ref=ref)
        if in_bucket := patched("logs-in-bucket"):
            storage = self.job.spec.checkpoint_config.checkpoint_storage if self._bucket_may_answer() else None
            cloud = self.job.spec.gcp_credentials_secret_ref if storage else None
            request = act.SaveLogs(ref=ref, storage=storage, cloud=cloud)
        which = f"{ref.replica}.{ref.incarnation}"
        try:
            saved = await call(act.SAVE_LOGS, request, summary=f"save the log of {which}")
        except ActivityError as error:
            workflow.logger.warning("log of %s: %s", which, explain(error)[1])
            return
        if in_bucket:
            self._saved(replica, request, saved)

    async def shorten(self) -> None:
        """Move logs from ConfigMaps into the bucket at the job's end, so that only their last lines stay in etcd.

        Raises:
            ActivityError: The API server did not answer.
        """
        spec = self.state.spec
        replicas = sorted({*self.state.replicas, *self.state.retired})
        if spec is None or not replicas:
            return
        storage = spec.checkpoint_config.checkpoint_storage
        cloud = spec.gcp_credentials_secret_ref if storage else None
        request = act.ShortenLogs(job=self.job.ref, replicas=replicas, storage=storage, cloud=cloud)
        shortened = await call(act.SHORTEN_LOGS, request, summary="shorten the logs that are kept in the cluster")
        if shortened.problem:
            self._not_saved(shortened.reason, f"{shortened.problem}; the end of each log is kept in its ConfigMap")
        elif shortened.moved:
            self._in_bucket()

    def _bucket_may_answer(self) -> bool:
        again = self.state.logs_again_at
        return again is None or workflow.now() >= again

    def _saved(self, replica: Replica, request: act.SaveLogs, saved: act.SavedLog) -> None:
        if saved.problem:
            self.state.logs_again_at = workflow.now() + LEAVE_BUCKET_ALONE
            self._not_saved(saved.reason, f"{saved.problem}; until it accepts them, logs are kept in ConfigMaps")
        elif request.storage is not None and saved.added_bytes:
            self._in_bucket()
        if saved.added_bytes and replica.log != saved.location:
            replica.log = saved.location
            self.job.touch()

    def _in_bucket(self) -> None:
        self.state.logs_again_at = None
        self.job.condition(
            conditions.LOGS_SAVED, True, reasons.IN_BUCKET, "jobStatuses[].log says where each replica's logs are"
        )

    def _not_saved(self, reason: str, message: str) -> None:
        old = self.state.conditions.get(conditions.LOGS_SAVED)
        if old is None or old.status != "False":
            self.job.event(events.LOGS_NOT_IN_BUCKET, message, warning=True)
        self.job.condition(conditions.LOGS_SAVED, False, reason, message)
