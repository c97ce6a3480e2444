"""What a refusal of the API server means to a workflow, said at the border of all activities.

Inside, a :class:`clients.kube.KubeError` is caught by its status like any other. One that nobody catches leaves with a
type of ``api.errors``, and is not retried where the same call cannot be granted later. What fails for whatever reason
is counted by it.

A server that has just started forbids everything to everybody until it has read the roles, for some seconds. So a right
counts as missing only where a second call is forbidden, too, and the server grants what every installation may do.
"""

from typing import Any

import aiohttp
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from api import errors
from clients.kube import FIRST_NAMESPACE, Kube, KubeError

_TYPES = {400: errors.INVALID, 401: errors.PERMISSION, 403: errors.PERMISSION, 422: errors.INVALID}
_RIGHTS = (401, 403)
FAILURES = "outlast_activity_failures"


class Refusals(Interceptor):
    """The worker's interceptor that turns refusals into what workflows understand."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Stand between an activity and its workflow."""
        return _Border(next, self._kube)


class _Border(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, kube: Kube) -> None:
        super().__init__(next)
        self._kube = kube

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await self._understood(input)
        except Exception as error:
            reason = (isinstance(error, ApplicationError) and error.type) or type(error).__name__
            failures = activity.metric_meter().create_counter(FAILURES, "activities that failed, by why")
            failures.add(1, {"reason": reason})
            raise

    async def _understood(self, input: ExecuteActivityInput) -> Any:
        try:
            return await super().execute_activity(input)
        except KubeError as refusal:
            if refusal.status in _RIGHTS and not refusal.causes and not await self._knows_its_roles():
                raise ApplicationError(str(refusal), type=f"Kubernetes{refusal.reason}") from refusal
            raise to_application_error(refusal) from refusal

    async def _knows_its_roles(self) -> bool:
        if activity.info().attempt == 1:
            return False
        try:
            await self._kube.get(FIRST_NAMESPACE)
        except (KubeError, aiohttp.ClientError, TimeoutError):
            return False
        return True


def to_application_error(refusal: KubeError) -> ApplicationError:
    """The error that a workflow gets."""
    return ApplicationError(str(refusal), type=kind_of(refusal), non_retryable=refusal.status in _TYPES)


def kind_of(refusal: KubeError) -> str:
    """What a workflow knows a refusal by: one of ``api.errors``, else the server's own reason."""
    return _TYPES.get(refusal.status, f"Kubernetes{refusal.reason}")
