"""Activities of a simulated service: attempts, their timeouts and retries.

The rules are those of https://docs.temporal.io/encyclopedia/retry-policies and of the service's own failures.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from temporalio import activity
from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import RetryState, TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.bridge.proto.workflow_commands import ScheduleActivity
from temporalio.converter import DataConverter
from temporalio.testing import ActivityEnvironment

from tests.simulation.clock import Clock, Due

Ended = Callable[[Payloads | Failure, int], None]
"""Called with the result, or with the failure and its RetryState."""


class Activity:
    """One scheduled activity, from its first attempt to its last.

    Args:
        command: as the workflow gave it.
        workflow_id: of that workflow.
        function: what carries it out; None if there is no worker now.
        latency: seconds from an attempt's effect until the service has its result.
        ended: called once.
    """

    def __init__(
        self,
        command: ScheduleActivity,
        workflow_id: str,
        function: Callable[..., Any],
        converter: DataConverter,
        clock: Clock,
        latency: Callable[[], float],
        running: Callable[[int], None],
        ended: Ended,
    ) -> None:
        self.command, self._workflow_id = command, workflow_id
        self._function, self._converter, self._clock = function, converter, clock
        self._latency, self._running, self._ended = latency, running, ended
        self.attempt = 0
        self.last_failure: Failure | None = None
        self._scheduled = clock.now
        self._task: asyncio.Task[None] | None = None
        self._next: Due | None = None  # the deadline of an attempt, its result on the way, or the next attempt
        self.in_attempt = False
        self.given_up = False  # the workflow cancelled it, and waits for it no longer
        self._lost = 0  # the attempt whose result nobody receives

    def begin(self) -> None:
        """Begin the next attempt now."""
        self.attempt += 1
        self.in_attempt = True
        seconds = _seconds(self.command.start_to_close_timeout)
        self._next = self._clock.after(seconds, self._time_out)
        self._running(1)
        self._task = asyncio.ensure_future(self._carry_out(self.attempt))

    def abandon(self) -> None:
        """Stop waiting for it."""
        if self._next is not None:
            self._next.call_off()
        self._stop()

    def lose_worker(self) -> None:
        """The process that carries it out is gone: an attempt under way ends with its deadline, or its heartbeats."""
        if self._stop() and self._next is not None and self.heartbeats:
            self._next.call_off()
            self._next = self._clock.after(_seconds(self.command.heartbeat_timeout), self._time_out)

    @property
    def heartbeats(self) -> bool:
        """True if it tells the service that it lives, and hears from it that it is cancelled."""
        return self.command.heartbeat_timeout.ToTimedelta() > timedelta()

    def _stop(self) -> bool:
        """Stop the attempt under way; False if there is none."""
        if self._task is None or self._task.done():
            return False
        self._task.cancel()
        self._lost = self.attempt
        return True

    async def _carry_out(self, attempt: int) -> None:
        try:
            outcome = await self._outcome()
        except asyncio.CancelledError:
            return
        finally:
            self._running(-1)
        if attempt == self._lost:
            return
        if self._next is not None:
            self._next.call_off()
        self._next = self._clock.after(self._latency(), lambda: self._report(outcome))

    async def _outcome(self) -> Payloads | Failure:
        environment = ActivityEnvironment()
        environment.payload_converter = self._converter.payload_converter
        environment.info = replace(
            environment.info,
            activity_id=self.command.activity_id,
            activity_type=self.command.activity_type,
            attempt=self.attempt,
            workflow_id=self._workflow_id,
            scheduled_time=self._scheduled,
            started_time=self._clock.now,
            start_to_close_timeout=self.command.start_to_close_timeout.ToTimedelta(),
            heartbeat_timeout=self.command.heartbeat_timeout.ToTimedelta(),
        )
        types = activity._Definition.must_from_callable(self._function).arg_types
        arguments = await self._converter.decode(list(self.command.arguments), types)
        try:
            result = await environment.run(self._function, *arguments)
        except Exception as error:
            failure = Failure()
            await self._converter.encode_failure(_without_traces(error), failure)
            return failure
        return Payloads(payloads=await self._converter.encode([result]))

    def _time_out(self) -> None:
        self._stop()
        failure = Failure(message="activity StartToClose timeout")
        failure.timeout_failure_info.timeout_type = TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
        self._report(failure)

    def _report(self, outcome: Payloads | Failure) -> None:
        self.in_attempt = False
        if isinstance(outcome, Payloads):
            self._ended(outcome, RetryState.RETRY_STATE_UNSPECIFIED)
            return
        self.last_failure = outcome
        state = self._state(outcome)
        if state != RetryState.RETRY_STATE_IN_PROGRESS:
            self._ended(outcome, state)
            return
        self._next = self._clock.after(self._backoff(outcome), self.begin)

    def _state(self, failure: Failure) -> RetryState.ValueType:
        """Say whether it may be retried, and if not, why not."""
        if self.given_up:
            return RetryState.RETRY_STATE_CANCEL_REQUESTED
        policy = self.command.retry_policy
        info = failure.application_failure_info
        if info.non_retryable or (info.type and info.type in policy.non_retryable_error_types):
            return RetryState.RETRY_STATE_NON_RETRYABLE_FAILURE
        if policy.maximum_attempts and self.attempt >= policy.maximum_attempts:
            return RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED
        whole = _seconds(self.command.schedule_to_close_timeout)
        if self._clock.now + timedelta(seconds=self._backoff(failure)) >= self._scheduled + timedelta(seconds=whole):
            return RetryState.RETRY_STATE_TIMEOUT
        return RetryState.RETRY_STATE_IN_PROGRESS

    def _backoff(self, failure: Failure) -> float:
        """Return the seconds until the next attempt."""
        if failure.application_failure_info.HasField("next_retry_delay"):
            return failure.application_failure_info.next_retry_delay.ToTimedelta().total_seconds()
        policy = self.command.retry_policy
        first = policy.initial_interval.ToTimedelta().total_seconds() or 1.0
        longest = policy.maximum_interval.ToTimedelta().total_seconds() or 100 * first
        return min(longest, first * (policy.backoff_coefficient or 2.0) ** (self.attempt - 1))


def _without_traces(error: Exception) -> Exception:
    """Take away what nobody reads and what takes longest to write; a test's own mistake keeps it."""
    each: BaseException | None = error
    while each is not None and not isinstance(each, AssertionError):
        each.__traceback__, each = None, each.__cause__
    return error


def _seconds(duration: Duration) -> float:
    """Read a timeout in seconds; a year if none is set."""
    return duration.ToTimedelta().total_seconds() or 365 * 86400.0
