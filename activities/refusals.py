"""What a refusal of the API server means to a workflow, said at the border of all activities.

Inside, a :class:`clients.kube.KubeError` is caught by its status like any other. One that nobody catches leaves with a
type of ``api.errors``, and is not retried where the same call cannot be granted later.
"""

from typing import Any

from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from api import errors
from clients.kube import KubeError

_TYPES = {400: errors.INVALID, 401: errors.PERMISSION, 403: errors.PERMISSION, 422: errors.INVALID}


class Refusals(Interceptor):
    """The worker's interceptor that turns refusals into what workflows understand."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Stand between an activity and its workflow."""
        return _Border(next)


class _Border(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await super().execute_activity(input)
        except KubeError as refusal:
            raise to_application_error(refusal) from refusal


def to_application_error(refusal: KubeError) -> ApplicationError:
    """The error that a workflow gets."""
    return ApplicationError(str(refusal), type=kind_of(refusal), non_retryable=refusal.status in _TYPES)


def kind_of(refusal: KubeError) -> str:
    """What a workflow knows a refusal by: one of ``api.errors``, else the server's own reason."""
    return _TYPES.get(refusal.status, f"Kubernetes{refusal.reason}")
