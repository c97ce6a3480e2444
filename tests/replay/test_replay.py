"""Workflows continue as they were recorded: the same commands in the same order, with the same inputs and durations.

The histories are those of each supported release. Such work may be open when the next release is rolled out, so an
intended difference needs ``patched`` of ``workflows.common.patches``.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from temporalio.client import WorkflowHistory

from tests.replay.comparison import TEXTS, differences
from tests.replay.recorded import newest, read, recorded
from tests.replay.releases import kept

NAMES = recorded()
SCHEDULED = "activity_task_scheduled_event_attributes"
TIMER = "timer_started_event_attributes"
SIGNAL = "signal_external_workflow_execution_initiated_event_attributes"


@pytest.mark.parametrize("release", kept("histories"))
def test_a_job_a_vm_and_a_market_are_recorded(release: str) -> None:
    of_it = [read(name) for name in NAMES if name.startswith(f"{release}/")]
    kinds = {each.events[0].workflow_execution_started_event_attributes.workflow_type.name for each in of_it}
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
    [line] = await differences(altered(read(newest("vm")), kind, alter))
    assert re.match(told, line)


def another_message(attributes: Any) -> None:
    set_message(attributes, "in other words")


def no_message(attributes: Any) -> None:
    set_message(attributes, "")


def set_message(attributes: Any, message: str) -> None:
    payload = attributes.input.payloads[0]
    value = json.loads(payload.data)
    assert value["message"]
    value["message"] = message
    payload.data = json.dumps(value).encode()


async def test_words_for_people_may_change() -> None:
    assert await differences(altered(read(newest("vm")), SIGNAL, another_message)) == []


async def test_words_that_are_missing_are_noticed() -> None:
    [line] = await differences(altered(read(newest("vm")), SIGNAL, no_message))
    assert re.match(r"signal \d+, input\.message: '' is recorded", line)


def altered(history: WorkflowHistory, kind: str, alter: Callable[[Any], None]) -> WorkflowHistory:
    """Copy a history, with another last event of a kind."""
    events = copy.deepcopy(list(history.events))
    alter(getattr([event for event in events if event.HasField(kind)][-1], kind))
    return WorkflowHistory(history.workflow_id, events)


def texts(value: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """List (owner, key) of each text in a document of which any text will do."""
    for key, item in value.items():
        if isinstance(item, str) and key not in {"stage", "at", *TEXTS}:
            yield value, key
        elif isinstance(item, dict):
            yield from texts(item)
