"""What the bridge asks of Temporal: read a run, start one, signal one. Nothing is decided here."""

from dataclasses import dataclass

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import MetricMeter, WorkflowIDConflictPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from api import metrics, names
from api.messages import JobStart, Shutdown
from api.model import Model
from clients.temporal import RPC_TIMEOUT, fair, latest_run
from crd_bridge.queues import NotYet


@dataclass(frozen=True)
class Run:
    """The latest run of a workflow id; ``uid`` is that of the object for which it was started, None if unknown."""

    run_id: str
    open: bool
    uid: str | None


class Gateway:
    """Temporal, as the bridge needs it. All methods raise ``RPCError`` if the service does not do as asked."""

    def __init__(self, client: Client, meter: MetricMeter = MetricMeter.noop) -> None:
        self._client = client
        self._signals = meter.create_counter(*metrics.BRIDGE_SIGNALS.made_by)
        self._starts = meter.create_counter(*metrics.BRIDGE_STARTS.made_by)

    async def latest(self, workflow_id: str) -> Run | None:
        """Read the latest run with this id; None if Temporal knows none."""
        found = await latest_run(self._client, workflow_id)
        if found is None:
            return None
        return Run(
            run_id=found.run_id,
            open=found.close_time is None and found.status != WorkflowExecutionStatus.CONTINUED_AS_NEW,
            uid=(await found.memo()).get("uid"),
        )

    async def start(self, job: JobStart) -> None:
        """Start a job's workflow.

        Raises:
            NotYet: another run with this id has started meanwhile.
        """
        workflow_id = names.job_workflow_id(job.namespace, job.name)
        try:
            await self._client.start_workflow(
                names.JOB_WORKFLOW,
                job,
                id=workflow_id,
                task_queue=names.TASK_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                memo=_memo(job),
                static_summary=_summary(job),
                priority=fair(job.namespace),
                rpc_timeout=RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError as error:
            raise NotYet(f"{workflow_id}: a workflow was started meanwhile") from error
        self._starts.add(1, {"start": "begin"})

    async def shut_down(self, job: JobStart) -> None:
        """Signal a job's workflow to end; if none is open, start one that tears down what is left."""
        await self._client.start_workflow(
            names.JOB_WORKFLOW,
            job,
            id=names.job_workflow_id(job.namespace, job.name),
            task_queue=names.TASK_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal="shutdown",
            start_signal_args=[Shutdown(uid=job.uid)],
            memo=_memo(job),
            static_summary=_summary(job),
            priority=fair(job.namespace),
            rpc_timeout=RPC_TIMEOUT,
        )
        self._starts.add(1, {"start": "shutdown"})

    async def signal(self, workflow_id: str, signal: str, message: Model) -> bool:
        """Signal an open workflow; False if there is none."""
        try:
            await self._client.get_workflow_handle(workflow_id).signal(signal, message, rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return False
            raise
        self._signals.add(1, {"signal": signal})
        return True


def _memo(job: JobStart) -> dict[str, str]:
    return {"uid": job.uid, "cluster": job.cluster_id}


def _summary(job: JobStart) -> str:
    """Write at most 200 bytes: the id after which everything of this job is named, and the object's own."""
    return f"SpotInstanceJob {job.name} · {job.job_id} · uid {job.uid}"
