"""What can be played from outside, by its name and with values as on a command line."""

import subprocess
import sys
from typing import Any

import pytest

from sandbox.checkpoint_operator import CheckpointOperator
from sandbox.control_plane import ControlPlane
from sandbox.errors import SandboxError
from sandbox.gce.faults import Faults
from sandbox.gpu_operator import GpuOperator
from sandbox.machines.mishaps import Mishaps
from sandbox.plays import FAULTS, TRAPS, faults_help, play_fault, play_trap, play_validator, traps_help, validator_help


def test_words_become_what_the_fault_takes() -> None:
    faults = Faults()
    play_fault(faults, "exhaust", ["us-central1-a"], {"times": "1", "at_once": "true"})
    shortages = [faults.shortage("us-central1-a", "n1-standard-4", "", at_once=True) for _ in range(2)]
    assert [shortage is not None for shortage in shortages] == [True, False]


def test_none_lifts_a_quota() -> None:
    faults = Faults()
    play_fault(faults, "set_quota", [], {"metric": "GPUS_ALL_REGIONS", "limit": "4"})
    assert faults.limits("p") == {(None, "GPUS_ALL_REGIONS"): 4.0}
    play_fault(faults, "set_quota", [], {"metric": "GPUS_ALL_REGIONS", "limit": None})
    assert faults.limits("p") == {}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("meltdown", {}, "no fault named meltdown; there are: exhaust, "),
        ("check_answer", {}, "no fault named check_answer"),
        ("exhaust", {}, "fault exhaust: zone: Missing required argument"),
        ("exhaust", {"zone": "a", "region": "b"}, "fault exhaust: region: Unexpected keyword argument"),
        ("lag_lists", {"seconds": "soon"}, "fault lag_lists: seconds: Input should be a valid number"),
    ],
)
def test_what_a_fault_does_not_take_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SandboxError, match=message):
        play_fault(Faults(), name, [], options)


def test_what_is_played_inside_a_machine_needs_a_light_one() -> None:
    faults = Faults()
    play_fault(faults, "hang_ssh", [], {"times": "1", "zone": "us-west1-a"})
    play_fault(faults, "skew_clocks", ["1", "3600"], {})
    zones = ("us-west1-b", "us-west1-a", "us-west1-a")
    assert [faults.mishaps(zone) for zone in zones] == [Mishaps(clock_behind=3600), Mishaps(ssh_hangs=True), Mishaps()]
    with pytest.raises(SandboxError, match="fault expire_tokens is played inside a machine"):
        play_fault(faults, "expire_tokens", ["1"], {}, machines="real")


async def test_what_a_trap_does_not_take_is_named(control_plane: ControlPlane) -> None:
    operator = CheckpointOperator(control_plane.kubeconfig, speed=1)
    with pytest.raises(SandboxError, match="no trap named fall; there are: stick, "):
        await play_trap(operator, "fall", {})
    with pytest.raises(SandboxError, match="trap slow: factor: Input should be a valid number"):
        await play_trap(operator, "slow", {"factor": "very"})
    with pytest.raises(ValueError, match="unknown phase 'Dinner'"):
        await play_trap(operator, "stick", {"phase": "Dinner"})


async def test_what_a_validator_does_not_take_is_named(control_plane: ControlPlane) -> None:
    operator = GpuOperator(control_plane.kubeconfig)
    with pytest.raises(SandboxError, match="a validator can fail or heal, not start"):
        await play_validator(operator, "start", {})
    with pytest.raises(SandboxError, match="validator fail: zone: Unexpected keyword argument"):
        await play_validator(operator, "fail", {"zone": "a"})


def test_help_lists_every_fault_with_its_parameters() -> None:
    text = faults_help()
    assert all(f"\n  {name} " in text for name in FAULTS)
    assert "exhaust zone=ZONE [machine_type=MACHINE_TYPE] [at_once=False] [times=TIMES]" in text


def test_help_lists_every_trap() -> None:
    assert all(f"\n  {name} " in traps_help() for name in TRAPS)


def test_the_command_lines_help_says_what_can_be_played() -> None:
    for command, text in (("fault", faults_help()), ("trap", traps_help()), ("validator", validator_help())):
        shown = subprocess.run(
            [sys.executable, "-m", "sandbox", command, "--help"], capture_output=True, text=True, check=True
        )
        assert text in shown.stdout
