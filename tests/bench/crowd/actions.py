"""Temporal's actions, counted in histories: what Temporal Cloud bills, and what costs a service of one's own most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

COUNTED = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: "start",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: "signal",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED: "update",
    EventType.EVENT_TYPE_TIMER_STARTED: "timer",
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: "activity",
}


def counted(events: Iterable[HistoryEvent]) -> Counter[str]:
    """Count the actions by kind; a retry of an activity is one more."""
    found: Counter[str] = Counter()
    for event in events:
        if kind := COUNTED.get(event.event_type):
            found[kind] += 1
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            found["retry"] += event.activity_task_started_event_attributes.attempt - 1
    return +found


async def per_workflow(client: Client, workflow_ids: Iterable[str]) -> Counter[str]:
    """Count the actions of these workflows' latest runs, on average, rounded up."""
    total: Counter[str] = Counter()
    number = 0
    for workflow_id in workflow_ids:
        history = await client.get_workflow_handle(workflow_id).fetch_history()
        total += counted(history.events)
        number += 1
    return Counter({kind: -(-count // number) for kind, count in total.items()})
