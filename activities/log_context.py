"""The interceptor by which each line that an activity logs says what it is about, whichever module logs it."""

from typing import Any

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from activities.signatures import JobRef, NodeRef, ReplicaRef, VmRef
from api.log_context import Field, about, of_workflow
from api.names import job_workflow_id


class LogContext(Interceptor):
    """Reads from an activity's input for which job, replica and VM it is."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap an activity."""
        return _Reader(next)


class _Reader(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        about(**of_workflow(activity.info().workflow_id or ""))
        for request in input.args:
            about(**named_in(request))
        return await super().execute_activity(input)


def named_in(request: Any) -> dict[str, Field]:
    """Find the job, replica and VM that an input names, itself or in one of its fields."""
    found: dict[str, Field] = {}
    for part in [request, *(getattr(request, field) for field in getattr(type(request), "model_fields", {}))]:
        match part:
            case ReplicaRef():
                found |= {"job": _key(part.job), "job_id": part.job.job_id, "replica": part.replica}
            case JobRef():
                found |= {"job": _key(part), "job_id": part.job_id}
            case VmRef() | NodeRef():
                found["vm"] = part.name
    replica = getattr(request, "replica", None)
    return found | ({"replica": replica} if isinstance(replica, int) else {})


def _key(job: JobRef) -> str:
    return job_workflow_id(job.namespace, job.name)
