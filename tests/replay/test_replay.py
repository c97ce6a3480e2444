"""Workflows go on as they were recorded: the same commands in the same order, with the same inputs and durations.

A difference that is meant is taken over by `make histories`; what was open at the time of the change needs
``workflow.patched`` besides.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from temporalio.client import WorkflowHistory

from tests.replay.comparison import differences
from tests.replay.recorded import read, recorded

NAMES = recorded()
SCHEDULED = "activity_task_scheduled_event_attributes"
TIMER = "timer_started_event_attributes"
SIGNAL = "signal_external_workflow_execution_initiated_event_attributes"


def test_a_job_a_vm_and_a_market_are_recorded() -> None:
    kinds = {read(name).events[0].workflow_execution_started_event_attributes.workflow_type.name for name in NAMES}
    assert kinds == {"SpotInstanceJob", "SpotVM", "SpotMarket"}


@pytest.mark.parametrize("name", NAMES)
async def test_replay_asks_for_what_is_recorded(name: str) -> None:
    assert await differences(read(name)) == []


def another_input(attributes: Any) -> None:
    payload = attributes.input.payloads[0]
    value = json.loads(payload.data)
    owner, key = next(texts(value))
    owner[key] += "-altered"
    payload.data = json.dumps(value).encode()


def another_time_out(attributes: Any) -> None:
    attributes.start_to_close_timeout.seconds += 1


def a_longer_timer(attributes: Any) -> None:
    attributes.start_to_fire_timeout.seconds += 1


@pytest.mark.parametrize(
    ("kind", "alter", "told"),
    [
        (SCHEDULED, another_input, r"activity \d+, input\.\w+.*-altered' is recorded"),
        (SCHEDULED, another_time_out, r"activity \d+, start-to-close: '\d+s' is recorded"),
        (TIMER, a_longer_timer, r"timer \d+, duration: "),
        (SIGNAL, another_input, r"signal \d+, input\.\w+.*-altered' is recorded"),
    ],
)
async def test_what_the_replayer_alone_passes_is_noticed(kind: str, alter: Callable[[Any], None], told: str) -> None:
    [line] = await differences(altered(read("vm"), kind, alter))
    assert re.match(told, line)


def altered(history: WorkflowHistory, kind: str, alter: Callable[[Any], None]) -> WorkflowHistory:
    """A copy in which the last event of a kind is another."""
    events = copy.deepcopy(list(history.events))
    alter(getattr([event for event in events if event.HasField(kind)][-1], kind))
    return WorkflowHistory(history.workflow_id, events)


def texts(value: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """(owner, key) of each text in a document of which any text will do."""
    for key, item in value.items():
        if isinstance(item, str) and key not in {"stage", "at"}:
            yield value, key
        elif isinstance(item, dict):
            yield from texts(item)
