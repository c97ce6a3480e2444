"""Compare what a workflow asks of the world in its recorded history and in a replay.

The Replayer compares the kinds and the order of commands. It does not notice another argument or time-out of an
activity, or a longer timer: a workflow that continues from such a history does something else than it once did. Here
the commands of a replay are read where the workflow hands them to the SDK, and compared with the recorded events.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.workflow import Info

from activities.signatures import ALL
from api.messages import PreemptionNotice, VmRelease, VmReport
from api.model import Model
from tests.workflow_sandbox import sandbox
from tests.workflows.tap import Tap
from worker.registration import WORKFLOWS

Asked = dict[str, dict[str, Any]]
"""What was asked for ("timer 3"), and its details by path ("input.spec.gcp.zone")."""

TYPES: dict[str, type[Model]] = {signature.name: signature.takes for signature in ALL}
TYPES |= {"vm_changed": VmReport, "release": VmRelease, "preemption_notice": PreemptionNotice}

TEXTS = {"message"}
"""Fields of inputs that only people read. Their words may change, so only whether there are any is compared."""

ADDED = {
    "input.report": {
        "gpus", "on_demand_per_hour", "begins_at", "reaches", "on_demand_cost", "gpu_hours", "lost_seconds",
        "frozen_seconds",
    },
    "input.entry": {"provisioning"},
}  # fmt: skip
"""Fields of a job's report and of a VM's entry that are newer than a recorded history. They are not compared, because
no workflow reads them."""


async def differences(history: WorkflowHistory) -> list[str]:
    """Replay a history, and return each detail that is not as recorded, in a line for people.

    Raises:
        NondeterminismError: the replayed commands are of another kind or order.
    """
    listener = Listener()
    runner = Tap(sandbox(), listener.take)
    replayer = Replayer(
        workflows=WORKFLOWS,
        data_converter=pydantic_data_converter,
        workflow_runner=runner,
        debug_mode=True,  # without it, a task of a long history that takes two seconds on a busy machine is an error
    )
    await replayer.replay_workflow(history)
    then, now = asked_in(history), listener.asked
    # A timer that was cancelled in the task that began it is in no history, so only what is recorded is checked.
    return [line for what, details in then.items() for line in _differing(what, details, now.get(what, {}))]


def _differing(what: str, then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for path in sorted(then.keys() | now.keys()):
        if then.get(path) != now.get(path):
            yield f"{what}, {path}: {then.get(path)!r} is recorded, {now.get(path)!r} is asked for now"


# --- recorded


def asked_in(history: WorkflowHistory) -> Asked:
    """Read activities, timers and signals to other workflows from the events."""
    asked: Asked = {}
    signals = count(1)
    for event in history.events:
        match event.WhichOneof("attributes"):
            case "activity_task_scheduled_event_attributes":
                activity = event.activity_task_scheduled_event_attributes
                details = _activity(activity, activity.activity_type.name, activity.input.payloads)
                asked[f"activity {activity.activity_id}"] = details
            case "timer_started_event_attributes":
                timer = event.timer_started_event_attributes
                asked[f"timer {timer.timer_id}"] = {"duration": _text(timer.start_to_fire_timeout)}
            case "signal_external_workflow_execution_initiated_event_attributes":
                signal = event.signal_external_workflow_execution_initiated_event_attributes
                asked[f"signal {next(signals)}"] = _signal(signal, signal.input.payloads)
    return asked


# --- replayed


class Listener:
    """Notes what one workflow asks for."""

    def __init__(self) -> None:
        self.asked: Asked = {}
        self._signals = count(1)

    def take(self, _: Info, command: Any) -> None:
        """Note one command. The SDK's core names activities and timers in the history by these numbers."""
        match command.WhichOneof("variant"):
            case "schedule_activity":
                activity = command.schedule_activity
                details = _activity(activity, activity.activity_type, activity.arguments)
                self.asked[f"activity {activity.activity_id}"] = details
            case "start_timer":
                timer = command.start_timer
                self.asked[f"timer {timer.seq}"] = {"duration": _text(timer.start_to_fire_timeout)}
            case "signal_external_workflow_execution":
                signal = command.signal_external_workflow_execution
                self.asked[f"signal {next(self._signals)}"] = _signal(signal, signal.args)


# --- both


def _activity(attributes: Any, kind: str, payloads: Any) -> dict[str, Any]:
    retry = attributes.retry_policy
    return {
        "type": kind,
        "start-to-close": _text(attributes.start_to_close_timeout),
        "heartbeat": _text(attributes.heartbeat_timeout),
        "retry": (_text(retry.initial_interval), _text(retry.maximum_interval), retry.maximum_attempts),
        **_input(kind, payloads),
    }


def _signal(attributes: Any, payloads: Any) -> dict[str, Any]:
    return {
        "name": attributes.signal_name,
        "to": attributes.workflow_execution.workflow_id,
        **_input(attributes.signal_name, payloads),
    }


def _input(kind: str, payloads: list[Payload]) -> dict[str, Any]:
    """Read an input by its type, as the receiver does: a field added later has its default in old inputs, too."""
    [value] = pydantic_data_converter.payload_converter.from_payloads(payloads, [TYPES[kind]])
    return dict(_flat(value.model_dump(mode="json"), "input"))


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            if any(path.startswith(where) and key in fields for where, fields in ADDED.items()):
                continue
            text = key in TEXTS and isinstance(item, str) and item
            yield from _flat("(words)" if text else item, f"{path}.{key}")
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from _flat(item, f"{path}.{number}")
    else:
        yield path, value


def _text(duration: Duration) -> str:
    return duration.ToJsonString()
