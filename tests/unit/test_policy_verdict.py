"""Whose end is it: the training's own, or a preemption's?"""

from typing import Any

import pytest

from tests.unit.policy import pod
from workflows.policy.verdict import verdict

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
