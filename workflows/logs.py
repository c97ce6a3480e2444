"""The job's logs: saved as its incarnations end, into its bucket if it has one; people are told where they are."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act

from workflows.calls import call, explain
from workflows.job import Job
from workflows.state import Replica

CONDITION = "LogsSaved"
LEAVE_BUCKET_ALONE = timedelta(minutes=10)
"""After a log that it did not take: no recovery waits for it again so soon."""


class Logs:
    """The condition LogsSaved of one job, and each replica's ``log``."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state

    async def save(self, replica: Replica, ref: act.ReplicaRef) -> None:
        """Save an incarnation's log; one that cannot be had is given up."""
        request = act.SaveLogs(ref=ref)
        if told := workflow.patched("logs-in-bucket"):
            storage = self.job.spec.checkpoint_config.checkpoint_storage if self._bucket_may_answer() else None
            cloud = self.job.spec.gcp_credentials_secret_ref if storage else None
            request = act.SaveLogs(ref=ref, storage=storage, cloud=cloud)
        which = f"{ref.replica}.{ref.incarnation}"
        try:
            saved = await call(act.SAVE_LOGS, request, summary=f"save the log of {which}")
        except ActivityError as error:
            workflow.logger.warning("log of %s: %s", which, explain(error)[1])
            return
        if told:
            self._saved(replica, request, saved)

    async def shorten(self) -> None:
        """At the job's end: what ConfigMaps hold goes into the bucket, and its end alone stays in etcd.

        Raises:
            ActivityError: the API server did not answer.
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
            self._lacks(shortened.reason, f"{shortened.problem}; the end of each log is kept in its ConfigMap")
        elif shortened.moved:
            self._in_bucket()

    def _bucket_may_answer(self) -> bool:
        again = self.state.logs_again_at
        return again is None or workflow.now() >= again

    def _saved(self, replica: Replica, request: act.SaveLogs, saved: act.SavedLog) -> None:
        if saved.problem:
            self.state.logs_again_at = workflow.now() + LEAVE_BUCKET_ALONE
            self._lacks(saved.reason, f"{saved.problem}; until it takes them, logs are kept in ConfigMaps")
        elif request.storage is not None and saved.added_bytes:
            self._in_bucket()
        if saved.added_bytes and replica.log != saved.location:
            replica.log = saved.location
            self.job.touch()

    def _in_bucket(self) -> None:
        self.state.logs_again_at = None
        self.job.condition(CONDITION, True, "InBucket", "jobStatuses[].log says where each replica's logs are")

    def _lacks(self, reason: str, message: str) -> None:
        old = self.state.conditions.get(CONDITION)
        if old is None or old.status != "False":
            self.job.event("LogsNotInBucket", message, warning=True)
        self.job.condition(CONDITION, False, reason, message)
