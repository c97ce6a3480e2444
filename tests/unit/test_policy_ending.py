"""Which images contain a process that had got a SIGTERM, and which ends are that process's."""

from typing import Any

import pytest

from api.views import ReplicaView
from tests.unit.policy import NOW, ago, pod, replica
from workflows.job.checkpoints.policy.ending import ends_as_told, told_to_end
from workflows.job.state.checkpoint import Checkpoint
from workflows.job.state.job import JobState, Notice
from workflows.job.state.replica import Old, Recovery
from workflows.job.state.seats import Seat


def view(**changes: Any) -> ReplicaView:
    return ReplicaView(job_name="job", pod=pod(**changes))


def told(seen: ReplicaView | None, *, replaced: bool = False, ends_at: Any = None) -> bool:
    """Say it of a checkpoint of incarnation 0 that ends now with this pod; ``replaced`` by a recovery that goes on."""
    one = replica(0, incarnation=0, live=not replaced, view=None if replaced else seen)
    if replaced:
        old = Old(incarnation=0, first=Seat(node="node-0"), view=seen)
        one.recovery = Recovery(cause="lost", noticed_at=ago(20), olds=[old])
    record = Checkpoint(
        number=1, replica=0, incarnation=0, node="node-0", reason="Notice", requested_at=ago(10), lineage_seconds=0
    )
    state = JobState(replicas={0: one})
    state.notices["node-0"] = Notice(source="agent", at=ago(20), ends_at=ends_at)
    return told_to_end(record, state, NOW)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_process_that_trains_on_was_not_told_to_end(replaced: bool) -> None:
    assert not told(view(), replaced=replaced)


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize(
    "seen",
    [view(deleting=True), view(disrupted=True), view(phase="Failed", exit_code=143), ReplicaView(job_name="job")],
)
def test_a_pod_that_is_being_taken_away_has_told_it(seen: ReplicaView, replaced: bool) -> None:
    assert told(seen, replaced=replaced)


def test_a_machine_that_is_shut_down_by_now_has_told_it() -> None:
    assert told(view(), ends_at=ago(1))
    assert not told(view(), ends_at=ago(-1))


def test_an_end_within_the_grace_is_the_one_that_it_was_told_of() -> None:
    assert ends_as_told(89, grace_seconds=0, margin=60)
    assert not ends_as_told(91, grace_seconds=0, margin=60)
    assert ends_as_told(300, grace_seconds=300, margin=60)
    assert not ends_as_told(float("inf"), grace_seconds=300, margin=60)
