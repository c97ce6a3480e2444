"""What a refusal of the API server means to a workflow, decided at the border of all activities.

Inside an activity, a :class:`clients.kube.KubeError` is caught by its status like any other. One that nobody catches
leaves with a type of ``api.errors``, and is not retried if the same call cannot succeed later. Every failure is counted
by its reason.

A server that has just started forbids everything to everybody for some seconds, until it has read the roles. So a right
counts as missing only if a second call is forbidden, too, and the server grants what every installation may do.
"""

from typing import Any

import aiohttp
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from api import errors, metrics
from clients.kube import FIRST_NAMESPACE, Kube, KubeError

_TYPES = {400: errors.INVALID, 401: errors.PERMISSION, 403: errors.PERMISSION, 422: errors.INVALID}
_RIGHTS = (401, 403)


class Refusals(Interceptor):
    """The worker's interceptor that converts refusals to errors that workflows understand."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap an activity."""
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
            failures = activity.metric_meter().create_counter(*metrics.ACTIVITY_FAILURES.made_by)
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
    """Make the error that a workflow receives."""
    return ApplicationError(str(refusal), type=kind_of(refusal), non_retryable=refusal.status in _TYPES)


def kind_of(refusal: KubeError) -> str:
    """Name the kind of a refusal: one of ``api.errors``, else the server's own reason."""
    return _TYPES.get(refusal.status, f"Kubernetes{refusal.reason}")
