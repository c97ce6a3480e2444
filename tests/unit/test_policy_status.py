"""What people read of a job."""

from typing import Any

import pytest

from api.common import Condition
from api.messages import JobStart, VmReport
from tests.unit.policy import NOW, ago, point, replica
from workflows.job.policy.status import job_status
from workflows.job.state.job import JobState
from workflows.job.state.replica import Replica
from workflows.job.state.vm import Vm

START = JobStart(namespace="team", name="llm", uid="u", cluster_id="c", job_id="0a1b2c3d")


def state(*replicas: Replica, **changes: Any) -> JobState:
    return JobState(replicas={one.index: one for one in replicas}, **changes)


def status(*replicas: Replica, **changes: Any) -> Any:
    return job_status(START, state(*replicas, **changes), NOW)


def test_names_the_workflow_and_the_job() -> None:
    assert (status().workflow_id, status().job_id) == ("team/llm", "0a1b2c3d")


def test_generation_is_absent_before_the_spec_was_read() -> None:
    assert status().observed_generation is None
    assert status(generation=3).observed_generation == 3


def test_running_replicas_are_the_active_ones() -> None:
    assert status(replica(0), replica(1, phase="Starting")).active_replicas == 1


def test_replicas_that_are_let_go_of_are_not_counted() -> None:
    assert status(replica(0), replica(1, halt="ScaledDown"), replica(2, halt="Suspended")).replicas == 2


def test_conditions_are_sorted_by_type() -> None:
    conditions = {kind: Condition(type=kind, status="True", reason="R") for kind in ("Running", "Accepted")}
    assert [condition.type for condition in status(conditions=conditions).conditions] == ["Accepted", "Running"]


def test_replicas_are_sorted_by_index() -> None:
    assert [entry.replica for entry in status(replica(1), replica(0)).job_statuses] == [0, 1]


def test_last_checkpoint_is_the_newest_of_all_replicas() -> None:
    old = replica(0, last_checkpoint_time=ago(60), last_checkpoint_image="old")
    new = replica(1, last_checkpoint_time=ago(30), last_checkpoint_image="new")
    found = status(old, new)
    assert (found.last_checkpoint_image, found.last_checkpoint_time) == ("new", ago(30))


def test_no_checkpoint_is_no_time() -> None:
    assert status(replica(0)).last_checkpoint_time is None


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({}, "name", "llm-0a1b2c3d-r0-i0"),
        ({"incarnation": -1}, "name", "llm-0a1b2c3d-r0-i0"),
        ({"incarnation": 2}, "name", "llm-0a1b2c3d-r0-i2"),
        ({"incarnation": -1}, "incarnation", 0),
        ({}, "phase", "Running"),
        ({"phase": "Released", "halt": "Suspended"}, "phase", "Suspended"),
        ({"phase": "Releasing", "halt": "Suspended"}, "phase", "Releasing"),
        ({"phase": "Released", "halt": "Deleted"}, "phase", "Released"),
        ({}, "message", None),
        ({"message": "waits"}, "message", "waits"),
        ({}, "node_name", "node-0"),
        ({}, "vm_name", None),
        ({"vm_key": "key"}, "vm_name", "outlast-key-t1"),
        ({"vm_key": "other"}, "vm_name", None),
        ({"restarts": 2}, "restarts", 2),
        ({"preemptions": 3}, "preemptions", 3),
        ({"reading": 41.0}, "progress", 41.0),
        ({}, "restored_from", None),
        ({"restore": point(100)}, "restored_from", "registry/train:100"),
    ],
)
def test_entry_of_a_replica(changes: dict[str, Any], field: str, expected: Any) -> None:
    report = VmReport(key="key", number=1, stage="Ready", vm_name="outlast-key-t1")
    vms = {"key": Vm(key="key", replica=0, report=report)}
    [entry] = status(replica(0, **changes), vms=vms).job_statuses
    assert getattr(entry, field) == expected
