"""The programs and services of a light machine: startup script, systemctl, nvidia-smi."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.sandbox.light_machines import World
from tests.sandbox.light_machines import world as running
from tests.sandbox.light_nodes import eventually

_UNIT = "systemctl is-active google-startup-scripts.service"


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        yield made


async def test_the_startup_script_runs_once_the_machine_is_up(world: World) -> None:
    script = "echo hello from boot\nwhile [ ! -e go ]; do sleep 0.05; done\npwd >where\nexit 3\n"
    machine = await world.boot("vm-1", startup_script=script)
    assert (await world.run(machine, _UNIT)).stdout == "activating\n"
    await world.run(machine, "touch go")

    async def inactive() -> bool:
        return (await world.run(machine, _UNIT)).stdout == "inactive\n"

    await eventually("end of the startup script", inactive)
    assert (machine.root / "where").read_text().strip() == str(machine.root)
    assert "startup-script: hello from boot" in machine.serial_output()
    assert "startup-script exit status 3" in machine.serial_output()


async def test_a_startup_script_may_name_its_interpreter(world: World) -> None:
    machine = await world.boot("vm-1", startup_script="#!/usr/bin/env python3\nopen('made', 'w').write('by python')\n")

    async def made() -> bool:
        return (machine.root / "made").exists()

    await eventually("the script's file", made)


async def test_systemctl_knows_the_kubelet_is_not_there_yet(world: World) -> None:
    machine = await world.boot("vm-1")
    done = await world.run(machine, "sudo -n systemctl is-active kubelet")
    assert (done.stdout, done.exit_status) == ("inactive\n", 3)
    failed = await world.run(machine, "sudo -n systemctl start kubelet")
    assert failed.exit_status == 1
    assert "kubelet config file" in failed.stderr
    assert (await world.run(machine, "systemctl is-active nothing-of-that-name")).exit_status == 4


async def test_nvidia_smi_shows_the_machines_gpus(world: World) -> None:
    machine = await world.boot("vm-1", gpu_count=2)
    assert (await world.run(machine, "nvidia-smi -L")).stdout.count("Tesla T4 (UUID: GPU-") == 2
    query = "nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits"
    assert (await world.run(machine, query)).stdout.splitlines()[0] == "Tesla T4, 15360"


async def test_nvidia_smi_fails_without_a_gpu(world: World) -> None:
    assert (await world.run(await world.boot("vm-1", gpu_count=0), "nvidia-smi")).exit_status == 9


async def test_nothing_answers_before_the_machine_has_booted(tmp_path: Path) -> None:
    async with running(tmp_path, speed=1.0) as slow:
        machine = slow.machines.create(slow.spec("vm-1"))
        slow.made.append(machine)
        await machine.boot()
        assert (await slow.metadata(machine, "instance/name")).status == 200
        assert not machine.guest_attributes
        assert not (machine.root / "bin").exists()
