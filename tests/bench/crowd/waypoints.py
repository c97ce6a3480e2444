"""What the time of a notice goes to, read in the histories: the bridge's signal, the decision, a slot, and the call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise

from temporalio.client import Client, WorkflowHistory

from activities.signatures.checkpoints import CREATE_CHECKPOINT
from tests.bench.page import percentile

SIGNAL = "preemption_notice"
SAMPLE = 30


@dataclass(frozen=True)
class Waypoints:
    """Seconds of each part of the way; in all from the mark to the activity's end."""

    signalled: float
    """The bridge: from the mark on the node to the signal in the workflow's history."""
    decided: float
    """The workflow task: to the request of the activity."""
    begun: float
    """The wait for a slot: to the activity's begin."""
    called: float
    """The activity: to the answer of the API server."""


async def medians(client: Client, marked: Mapping[str, float]) -> Waypoints | None:
    """Read some of these workflows, marked at these Unix times; None if none was answered."""
    some = list(marked)[:: -(-len(marked) // SAMPLE)] if marked else []
    histories = [(await client.get_workflow_handle(each).fetch_history(), marked[each]) for each in some]
    found = [way for history, at in histories if (way := waypoints(history, at))]
    if not found:
        return None
    return Waypoints(*(percentile([getattr(way, each.name) for way in found], 0.5) for each in fields(Waypoints)))


def waypoints(history: WorkflowHistory, marked: float) -> Waypoints | None:
    """Find the first notice after the mark, and the activity that requests the checkpoint."""
    moments = [marked]
    requested = 0
    for event in history.events:
        at = event.event_time.ToNanoseconds() / 1e9
        signalled = event.workflow_execution_signaled_event_attributes.signal_name == SIGNAL
        scheduled = event.activity_task_scheduled_event_attributes.activity_type.name == CREATE_CHECKPOINT.name
        if len(moments) == 1 and signalled and at >= marked:
            moments.append(at)
        elif len(moments) == 2 and scheduled:
            requested = event.event_id
            moments.append(at)
        elif len(moments) == 3 and event.activity_task_started_event_attributes.scheduled_event_id == requested:
            moments.append(at)
        elif len(moments) == 4 and event.activity_task_completed_event_attributes.scheduled_event_id == requested:
            moments.append(at)
            return Waypoints(*(later - earlier for earlier, later in pairwise(moments)))
    return None
