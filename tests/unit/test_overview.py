"""The one line of ``kubectl get sij``, as a table."""

from typing import Any

import pytest

from api.common import Condition
from api.overview import BLOCKERS, LONGEST, PHASES, overview
from api.phases import Phase
from api.spot_instance_job import JobStatusEntry, SpotInstanceJobStatus
from tests.unit.generated import Chance

NO_CAPACITY = "no capacity in us-central1-a, tried again at 10:00:00 UTC"
NOTHING_TO_RESTORE = "no usable checkpoint; set checkpointConfig.onUnrestorable: ColdStart to start from the beginning"


def condition(type_: str, status: Any = "False", reason: str = "R", message: str = "") -> Condition:
    return Condition(type=type_, status=status, reason=reason, message=message)


def status(*phases: str, meant: int = 2, said: str = "", told: list[Condition] | None = None) -> SpotInstanceJobStatus:
    entries = [
        JobStatusEntry(name=f"r{index}", phase=phase, message=said or None) for index, phase in enumerate(phases)
    ]
    return SpotInstanceJobStatus(
        job_statuses=entries,
        replicas=meant,
        active_replicas=len([phase for phase in phases if phase == "Running"]),
        conditions=told or [],
    )


ACCEPTED = condition("Accepted", "True", "SpecIsValid")
LOST = condition("Recovering", "True", "ReplicaLost", "replica 1: its machine is gone")
CAPACITY = condition("CapacityAvailable", message=NO_CAPACITY)
CASES = [
    (status(), "Reading the spec"),
    (status(told=[condition("Accepted", message="vmImage: there is none")]), "Not accepted: vmImage: there is none"),
    (status(told=[condition("Accepted", "Unknown", "Transient")]), "Not accepted: Transient"),
    (
        status(told=[ACCEPTED, condition("RegistryReady", message="cannot be pushed to")]),
        "Not ready: RegistryReady: cannot be pushed to",
    ),
    (
        status(
            told=[ACCEPTED, condition("MachineFits", "Unknown"), condition("CloudReady", message="no n1-standard-5")]
        ),
        "Not ready: CloudReady: no n1-standard-5",
    ),
    (status(told=[ACCEPTED]), "Preparing"),
    (status("Pending", "Pending"), "Looking for a GPU"),
    (status("Provisioning", "Provisioning", told=[CAPACITY]), f"Buying a VM: {NO_CAPACITY}"),
    (
        status("Joining", "Joining", told=[CAPACITY], said="waits for SSH on vm-1"),
        "Joining a VM: waits for SSH on vm-1",
    ),
    (status("Queued", said="queue research holds its Job"), "Queued: queue research holds its Job"),
    (status("Starting", "Provisioning", said="ImagePullBackOff"), "Buying a VM: ImagePullBackOff"),
    (status("Starting", "Starting", said="ImagePullBackOff"), "Starting: ImagePullBackOff"),
    (
        status(
            "Running", "Preempted", told=[LOST, CAPACITY, condition("MachineFits", message="n1: too little memory")]
        ),
        "Recovering 1/2: no machine fits: n1: too little memory",
    ),
    (status("Running", "Running"), "Running 2/2"),
    (status("Running", "Provisioning", said="VM runs"), "Running 1/2: buying a VM: VM runs"),
    (status("Running", "Provisioning", told=[LOST, CAPACITY]), f"Recovering 1/2: buying a VM: {NO_CAPACITY}"),
    (status("Running", "Failed"), "Running 1/2"),
    (status("Succeeded", "Releasing"), "Releasing a VM"),
    (
        status("Restoring", meant=1, told=[LOST, condition("Restorable", message=NOTHING_TO_RESTORE)]),
        f"Recovering 0/1: waiting for a decision: {NOTHING_TO_RESTORE}"[:119] + "…",
    ),
    (
        status("Restoring", meant=1, told=[condition("Restorable", message=NOTHING_TO_RESTORE)]),
        f"Waiting for a decision: {NOTHING_TO_RESTORE}",
    ),
    (
        status("Running", "Running", told=[condition("CheckpointsSucceed", message="the disk is full")]),
        "Running 2/2, checkpoints fail",
    ),
    (status("Running", "Running", told=[condition("Accepted", reason="CannotBeChanged")]), "Running 2/2, edit refused"),
    (status("Running", "Running", told=[condition("StorageReady")]), "Running 2/2, StorageReady=False"),
    (status("Running", "Running", told=[condition("Suspended", reason="Resumed")]), "Running 2/2"),
    (
        status("Pending", "Pending", told=[condition("Queued", "True", "HeldByKueue", "waits for quota research")]),
        "Queued: waits for quota research",
    ),
    (status("Pending", "Pending", told=[condition("Queued", "False", "NotHeld", "admitted")]), "Looking for a GPU"),
    (
        status("Starting", "Provisioning", told=[condition("PodsStart", message="replica 0: no such image"), CAPACITY]),
        "Pods do not start: replica 0: no such image",
    ),
    (
        status("Running", "Starting", told=[LOST, condition("Stable", message="replica 1: evicted by kubelet")]),
        "Recovering 1/2: unstable: replica 1: evicted by kubelet",
    ),
    (
        status("Running", "Running", told=[condition("Progressing"), condition("CheckpointsSucceed")]),
        "Running 2/2, stalled",
    ),
    (
        status("Running", told=[condition("Suspended", message="waits for a checkpoint, try 1 of 5")]),
        "Suspending: waits for a checkpoint, try 1 of 5",
    ),
    (status("Suspended", told=[condition("Suspended", "True")]), "Suspended"),
    (status("Succeeded", told=[condition("Completed", "True")]), "Completed"),
    (status("Failed", told=[condition("Failed", "True", "DeadlineExceeded")]), "Failed: DeadlineExceeded"),
    (
        status("Released", told=[condition("Running", reason="Cancelled"), condition("Failed", "True", "Cancelled")]),
        "Failed: Cancelled",
    ),
    (
        status(
            "Released",
            told=[
                condition("Completed", "True"),
                condition("Running", reason="Deleted"),
                condition("TornDown", message="waits for vm-1 to be gone"),
            ],
        ),
        "Deleting: waits for vm-1 to be gone",
    ),
]


@pytest.mark.parametrize(("found", "expected"), CASES, ids=[expected for _, expected in CASES])
def test_state(found: SpotInstanceJobStatus, expected: str) -> None:
    assert overview(found).state == expected


def test_message_holds_what_the_state_leaves_out() -> None:
    told = condition("CapacityAvailable", message="x" * 500)
    state, message = overview(status("Provisioning", told=[told]))
    assert len(state) == LONGEST
    assert state.endswith("x…")
    assert message == told.message


def test_message_names_what_is_wrong_beside_a_running_training() -> None:
    told = condition("CheckpointsSucceed", message="checkpoint 3: the disk is full")
    assert overview(status("Running", "Running", told=[told])).message == (
        "CheckpointsSucceed: checkpoint 3: the disk is full"
    )


def test_each_phase_of_a_replica_that_does_not_run_has_its_words() -> None:
    ended = {"Running", "Released", "Succeeded", "Failed"}
    assert set(PHASES) >= set(Phase.__args__) - ended  # type: ignore[attr-defined]
    assert all(blocker.phases <= set(PHASES) for blocker in BLOCKERS)


def test_a_long_message_of_many_lines_becomes_one_line() -> None:
    told = condition("Failed", "True", "DeadlineExceeded", "it ran\n  for a day")
    assert overview(status("Failed", told=[told])) == ("Failed: DeadlineExceeded", "it ran for a day")


def test_it_is_one_short_line_whatever_the_status() -> None:
    for seed in range(500):
        found = Chance(seed).of(SpotInstanceJobStatus)
        state, message = overview(found)
        assert 0 < len(state) <= LONGEST
        assert "\n" not in state + message
