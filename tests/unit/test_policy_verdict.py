"""The verdict on an end: the training's own, or a preemption's."""

from typing import Any

import pytest

from api.views import ContainerEnd
from tests.unit.policy import pod
from workflows.job.replica.policy.verdict import deciding_end, has_ended, verdict

SUCCEEDED = pod(phase="Succeeded", exit_code=0)
FAILED = pod(phase="Failed", exit_code=1)


@pytest.mark.parametrize(
    ("end", "noticed", "lives", "expected"),
    [
        (SUCCEEDED, False, True, ("Succeeded", "exit code 0")),
        (SUCCEEDED, True, True, ("Preempted", "its node had a preemption notice")),
        (SUCCEEDED, False, False, ("Preempted", "its machine is gone")),
        (SUCCEEDED.model_copy(update={"disrupted": True}), False, True, ("Preempted", "its pod was being taken away")),
        (SUCCEEDED.model_copy(update={"deleting": True}), False, True, ("Preempted", "its pod was being taken away")),
        (FAILED, False, True, ("Failed", "exit code 1")),
        (FAILED, True, True, ("Preempted", "its node had a preemption notice")),
        (FAILED, False, False, ("Preempted", "its machine is gone")),
        (FAILED.model_copy(update={"disrupted": True}), False, True, ("Preempted", "its pod was being taken away")),
        (FAILED.model_copy(update={"message": "OOMKilled"}), False, True, ("Failed", "exit code 1: OOMKilled")),
        (None, False, True, ("Preempted", "its pod is gone")),
        (None, True, False, ("Preempted", "its pod is gone")),
    ],
)
def test_verdict(end: Any, noticed: bool, lives: bool, expected: tuple[str, str]) -> None:
    assert verdict(end, noticed=noticed, machine_lives=lives) == expected


def end(name: str, code: int, message: str | None = None) -> ContainerEnd:
    return ContainerEnd(name=name, exit_code=code, message=message)


GOOD, BAD = end("train", 0), end("proxy", 3, "Error")


@pytest.mark.parametrize(
    ("phase", "ends", "main", "expected"),
    [
        ("Running", [], None, None),
        ("Running", [GOOD], None, None),
        ("Running", [GOOD], "train", "train"),
        ("Running", [BAD], None, "proxy"),
        ("Running", [BAD], "train", None),
        ("Running", [BAD, GOOD], None, "proxy"),
        ("Running", [BAD, GOOD], "train", "train"),
        ("Running", [BAD], "gone", None),
    ],
)
def test_whose_end_counts(phase: str, ends: list[ContainerEnd], main: str | None, expected: str | None) -> None:
    seen = pod(phase=phase, ends=ends)
    found = deciding_end(seen, main)
    assert (found and found.name) == expected
    assert has_ended(seen, main) == (expected is not None)


@pytest.mark.parametrize(
    ("phase", "ends", "main", "expected"),
    [
        ("Running", [BAD], None, ("Failed", "container proxy: exit code 3: Error")),
        ("Running", [GOOD], "train", ("Succeeded", "exit code 0")),
        ("Failed", [GOOD, BAD], "train", ("Succeeded", "exit code 0")),
        ("Failed", [end("train", 1), BAD], "train", ("Failed", "container train: exit code 1")),
        ("Failed", [], "train", ("Failed", "exit code 9")),  # an init container failed
    ],
)
def test_verdict_beside_other_containers(
    phase: str, ends: list[ContainerEnd], main: str | None, expected: tuple[str, str]
) -> None:
    seen = pod(phase=phase, ends=ends, exit_code=9)
    assert verdict(seen, noticed=False, machine_lives=True, main=main) == expected


def test_a_view_of_an_earlier_release_names_no_container() -> None:
    assert has_ended(pod(exit_code=1), None)
    assert not has_ended(pod(), None)
