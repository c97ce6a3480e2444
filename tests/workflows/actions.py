"""Temporal's billed actions, counted in the histories of a simulated service: they do not depend on the machine.

Source: https://docs.temporal.io/cloud/actions. A signal counts once, whoever sends it. An activity counts at each
attempt, and each heartbeat that reaches the service counts too.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from tests.simulation.execution import Execution
from tests.workflows.world import World

THROTTLE = 0.8
"""The SDK sends the service one heartbeat in this part of a heartbeat time-out, and a minute at most."""

ONCE = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: "start",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED: "update",
    EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES: "search attributes",
}
ENDS = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT,
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
}


def actions(world: World, since: datetime, until: datetime) -> Counter[str]:
    """Count the actions of all workflows between two moments, by their kind."""
    counted: Counter[str] = Counter()
    for run in world.env.runs():  # type: ignore[attr-defined]
        for at, what in _of_run(run):
            if since <= at < until:
                counted[f"{run.beginning.workflow_type}: {what}"] += 1
    return counted


def table(counted: Counter[str]) -> str:
    """Show them for people, the most frequent first."""
    return "\n".join([f"{sum(counted.values()):5} in all", *(f"{n:5} {what}" for what, n in counted.most_common())])


def _of_run(run: Execution) -> Iterator[tuple[datetime, str]]:
    scheduled: dict[int, HistoryEvent] = {}
    attempts: dict[int, int] = {}
    for event in run.history.events:
        at, kind = event.event_time.ToDatetime(tzinfo=UTC), event.event_type
        if kind in ONCE:
            yield at, ONCE[kind]
        elif kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            yield at, f"signal {event.workflow_execution_signaled_event_attributes.signal_name}"
        elif kind == EventType.EVENT_TYPE_TIMER_STARTED:
            yield at, f"timer {_summary(event)}"
        elif kind == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            scheduled[event.event_id] = event
            yield at, _activity(event)
        elif kind == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            started = event.activity_task_started_event_attributes
            attempts[started.scheduled_event_id] = started.attempt
        elif kind in ENDS:
            number = getattr(event, event.WhichOneof("attributes")).scheduled_event_id
            yield from _more(scheduled[number], attempts.get(number, 1), at)


def _more(begin: HistoryEvent, attempts: int, end: datetime) -> Iterator[tuple[datetime, str]]:
    """What an activity costs beside its first attempt."""
    for _ in range(attempts - 1):
        yield end, f"{_activity(begin)}, again"
    timeout = begin.activity_task_scheduled_event_attributes.heartbeat_timeout.ToTimedelta().total_seconds()
    took = (end - begin.event_time.ToDatetime(tzinfo=UTC)).total_seconds()
    for _ in range(int(took / min(60.0, THROTTLE * timeout)) if timeout else 0):
        yield end, f"heartbeat of {_activity(begin)}"


def _activity(event: HistoryEvent) -> str:
    return f"activity {event.activity_task_scheduled_event_attributes.activity_type.name}"


def _summary(event: HistoryEvent) -> str:
    """Return the first words of a timer's summary, without names and numbers."""
    said = event.user_metadata.summary.data.decode().strip('"') if event.HasField("user_metadata") else ""
    return " ".join(word for word in said.split()[:4] if not any(map(str.isdigit, word)))
