"""How a workflow calls an activity: by its signature, with a time-out and a bounded number of attempts."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError

with workflow.unsafe.imports_passed_through():
    from activities.signatures import Signature
    from api import errors, names

In = TypeVar("In")
Out = TypeVar("Out")

USUAL = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10), maximum_attempts=4)
"""The roll-out of a worker uses up an attempt, so one is not enough. The phase reports and retries what still fails."""

URGENT = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=2), maximum_attempts=6
)
"""On the path of a notice each second counts, so a call whose answer was lost is repeated at once."""


async def call(
    signature: Signature[In, Out],
    request: In,
    *,
    summary: str,
    urgent: bool = False,
    ahead: bool = False,
    watch: float | None = None,
) -> Out:
    """Run an activity and return its result.

    Args:
        signature: The activity.
        request: Its input.
        summary: What the call is for, shown in the Web UI. It is cut after 200 characters.
        urgent: Whether to retry within a second rather than within ten.
        ahead: Whether to go ahead of everything that is not. It stays on the workflow's task queue, because the service
            hands activities of that queue over with the workflow task that asks for them, without a poll.
        watch: How many seconds the activity may watch something until it is as wanted. None: as its signature allows.

    Raises:
        ActivityError: The activity failed for good or used up its attempts. :func:`explain` says what happened.
    """
    if watch is not None:
        signature = signature.watching(watch)
    result: Out = await workflow.execute_activity(
        signature.name,
        request,
        task_queue=signature.task_queue,
        priority=Priority(priority_key=names.URGENT) if ahead else Priority.default,
        result_type=signature.gives,
        start_to_close_timeout=timedelta(seconds=signature.timeout),
        heartbeat_timeout=timedelta(seconds=signature.heartbeat) if signature.heartbeat else None,
        retry_policy=URGENT if urgent else USUAL,
        summary=summary[:200],
    )
    return result


async def call_unless(
    over: Callable[[], bool],
    signature: Signature[In, Out],
    request: In,
    *,
    summary: str,
    watch: float | None = None,
) -> Out | None:
    """Run an activity unless its answer no longer matters first; None if it does not, and then it is cancelled.

    Args:
        over: True once the answer no longer matters.
        signature: The activity.
        request: Its input.
        summary: What the call is for.
        watch: How many seconds the activity may watch something, as for :func:`call`.

    Raises:
        ActivityError: The activity failed.
    """
    asking = asyncio.create_task(call(signature, request, summary=summary, watch=watch))
    await workflow.wait_condition(lambda: asking.done() or over())
    if asking.done():
        return await asking
    asking.cancel()
    with suppress(ActivityError, asyncio.CancelledError):
        await asking
    return None


def explain(error: ActivityError) -> tuple[str, str]:
    """Return the reason and the message of a failed activity. The reason is from ``api.errors``."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type:
        return (cause.type if cause.non_retryable else errors.TRANSIENT, cause.message)
    if isinstance(cause, TimeoutError):
        return errors.TRANSIENT, f"{error.activity_type} did not answer in time"
    return errors.TRANSIENT, str(cause or error)


def superseded_by(error: ActivityError) -> int | None:
    """Return the later incarnation because of which a Job was not created; None if the failure was another."""
    cause = error.cause
    superseded = isinstance(cause, ApplicationError) and cause.type == errors.SUPERSEDED and cause.details
    return int(cause.details[0]) if superseded and isinstance(cause, ApplicationError) else None


def scope_of(error: ActivityError) -> str:
    """Return the quota's metric or the permission for lack of which a creation was refused; empty if it names none."""
    details = error.cause.details if isinstance(error.cause, ApplicationError) else ()
    return str(details[0]) if details else ""
