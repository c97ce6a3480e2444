"""How a workflow calls an activity: by its signature, with its time-out, and never for ever in silence."""

from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError

with workflow.unsafe.imports_passed_through():
    from activities.signatures import Signature
    from api import errors

In = TypeVar("In")
Out = TypeVar("Out")

# A worker's roll-out uses up an attempt, so one is never enough; what still fails is told and tried again by the phase.
USUAL = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10), maximum_attempts=4)
# On the notice path each second counts: a lost answer is asked for again at once.
URGENT = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=2), maximum_attempts=6
)


async def call(signature: Signature[In, Out], request: In, *, summary: str, urgent: bool = False) -> Out:
    """Run an activity and give its result.

    Raises:
        ActivityError: it failed for good or used up its attempts; ``explain`` says what happened.
    """
    result: Out = await workflow.execute_activity(
        signature.name,
        request,
        task_queue=signature.queue,
        result_type=signature.gives,
        start_to_close_timeout=timedelta(seconds=signature.timeout),
        heartbeat_timeout=timedelta(seconds=signature.heartbeat) if signature.heartbeat else None,
        retry_policy=URGENT if urgent else USUAL,
        summary=summary[:200],
    )
    return result


def explain(error: ActivityError) -> tuple[str, str]:
    """(reason, message) of a failed activity: the reason is one of ``api.errors`` or ``Transient``."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type:
        return (cause.type if cause.non_retryable else "Transient", cause.message)
    if isinstance(cause, TimeoutError):
        return "Transient", f"{error.activity_type} did not answer in time"
    return "Transient", str(cause or error)


def superseded_by(error: ActivityError) -> int | None:
    """The later incarnation in the details of a Job that was not created because of it."""
    cause = error.cause
    superseded = isinstance(cause, ApplicationError) and cause.type == errors.SUPERSEDED and cause.details
    return int(cause.details[0]) if superseded and isinstance(cause, ApplicationError) else None


def scope_of(error: ActivityError) -> str:
    """The quota's metric, or the permission, in the details of a refused creation; empty if it names none."""
    details = error.cause.details if isinstance(error.cause, ApplicationError) else ()
    return str(details[0]) if details else ""
