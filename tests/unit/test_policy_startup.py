"""Why a pod does not run yet: is it too early, or is what it starts from bad?"""

from typing import Any

import pytest

from api.views import ContainerEnd
from tests.unit.policy import pod
from workflows.job.replica.policy.startup import does_not_start, remedy, startup, waits_for_others


def waiting(reason: str | None = None, message: str | None = None, **changes: Any) -> Any:
    known = {"phase": "Pending", "started_at": None, "waiting_reason": reason, "message": message}
    return pod(**{**known, **changes})


CANNOT_START = [
    "CreateContainerError",
    "RunContainerError",
    "StartError",
    "ContainerCannotRun",
    "CrashLoopBackOff",
]
INIT = [ContainerEnd(name="download", exit_code=1, init=True)]
CONFIG = "CreateContainerConfigError"
REFUSED = [
    "unauthorized: authentication required",
    "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope",
    "failed to resolve reference: 403 Forbidden: not found",
]
ABSENT = ["image not found", "manifest unknown", "name unknown: repository", "tag Does Not Exist", "blob unknown to us"]
DAMAGED = [
    'failed commit on ref "layer-sha256:00": unexpected commit digest sha256:11, expected sha256:00',
    "writing blob: Digest did not match, expected sha256:00, got sha256:11",
]


@pytest.mark.parametrize(
    ("seen", "restored", "expected"),
    [
        (None, True, "Waiting"),
        (waiting(), True, "Waiting"),
        (waiting("ContainerCreating"), True, "Waiting"),
        (waiting("Unschedulable"), True, "Waiting"),
        (pod(), True, "Running"),
        (pod(), False, "Running"),
        (pod(started_at=None), True, "Waiting"),
        (pod(phase="Succeeded"), True, "Ended"),
        (pod(phase="Failed", exit_code=1), False, "Ended"),
        (pod(phase="Failed", waiting_reason="StartError"), True, "BadImage"),
        (pod(phase="Failed", waiting_reason="StartError"), False, "NeverRan"),
        (pod(phase="Failed", started_at=None), True, "BadImage"),
        (pod(phase="Failed", started_at=None, disrupted=True), True, "NeverRan"),
        (pod(phase="Failed", started_at=None), False, "NeverRan"),
        (pod(phase="Failed", started_at=None, ends=INIT), True, "InitFailed"),
        (pod(phase="Failed", started_at=None, ends=INIT, disrupted=True), False, "NeverRan"),
        (pod(phase="Pending", started_at=None, ends=INIT), False, "Waiting"),
        *[(waiting("ErrImagePull", message), True, "Waiting") for message in REFUSED],
        (waiting(CONFIG, 'configmap "settings" not found'), True, "Waiting"),
        (waiting(CONFIG, "container has runAsNonRoot and image will run as root"), True, "BadImage"),
        (waiting(CONFIG, "container has runAsNonRoot and image will run as root"), False, "Waiting"),
        (waiting("ImagePullBackOff", "dial tcp: i/o timeout"), True, "Waiting"),
        (waiting("ImagePullBackOff"), True, "Waiting"),
        *[(waiting(reason), True, "BadImage") for reason in CANNOT_START],
        *[(waiting(reason), False, "Waiting") for reason in CANNOT_START],
        *[(waiting("ErrImagePull", message), True, "MissingImage") for message in ABSENT],
        *[(waiting("ImagePullBackOff", message), True, "MissingImage") for message in ABSENT],
        *[(waiting("ErrImagePull", message), False, "Waiting") for message in ABSENT],
        *[(waiting("ErrImagePull", message), True, "BadImage") for message in DAMAGED],
        *[(waiting("ErrImagePull", message), False, "Waiting") for message in DAMAGED],
    ],
)
def test_startup(seen: Any, restored: bool, expected: str) -> None:
    assert startup(seen, restored=restored) == expected


@pytest.mark.parametrize("reason", CANNOT_START)
def test_runtime_that_tried_in_vain_does_not_start(reason: str) -> None:
    assert does_not_start(waiting(reason))


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "Unschedulable", CONFIG])
def test_registry_or_room_is_waited_for_on_any_machine(reason: str) -> None:
    assert waits_for_others(waiting(reason))
    assert not does_not_start(waiting(reason))


def test_pod_that_is_being_created_is_neither() -> None:
    assert not does_not_start(waiting("ContainerCreating"))
    assert not waits_for_others(waiting("ContainerCreating"))


def test_what_helps_against_a_blocker_is_said_if_a_person_can_help() -> None:
    assert remedy("ImagePullBackOff", restored=False).startswith("Push the image, or correct its name")
    assert remedy("CreateContainerConfigError", restored=True).startswith("Create what it names")
    assert remedy("ImagePullBackOff", restored=True) == "", "the image of a checkpoint is not a person's to push"
    assert remedy("Evicted", restored=False) == ""
