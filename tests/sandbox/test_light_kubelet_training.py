"""The light training and its log, without a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from sandbox.machines.light.kubelet.logs import ContainerLog, LogOptions, read_log
from sandbox.machines.light.kubelet.process import CheckpointError
from sandbox.machines.light.kubelet.training import LightTraining, Memory
from tests.sandbox.light_nodes import eventually

FAST = 1000.0


def training(env: Mapping[str, str], step: int = 0, speed: float = FAST) -> tuple[LightTraining, list[str]]:
    """Start a training with its log."""
    lines: list[str] = []
    return LightTraining(Memory(step, dict(env), "host"), {}, lines.append, speed), lines


async def test_the_loss_depends_on_seed_and_step_alone() -> None:
    whole, all_lines = training({"SANDBOX_STEPS": "8", "SANDBOX_SEED": "7"})
    rest, last_lines = training({"SANDBOX_STEPS": "8", "SANDBOX_SEED": "7"}, step=5)
    assert await whole.wait() == await rest.wait() == 0
    assert all_lines[-4:-1] == last_lines[-4:-1]
    assert last_lines[-4].startswith("step=6/8 loss=")


@pytest.mark.parametrize(("on_sigterm", "code"), [("exit143", 143), ("exit0", 0)])
async def test_sigterm_ends_it(on_sigterm: str, code: int) -> None:
    process, _ = training({"SANDBOX_ON_SIGTERM": on_sigterm, "SANDBOX_STEPS": "100000"})
    process.terminate()
    assert await process.wait() == code


async def test_a_kill_ends_what_ignores_sigterm() -> None:
    process, lines = training({"SANDBOX_ON_SIGTERM": "ignore", "SANDBOX_STEPS": "100000"})
    process.terminate()

    async def goes_on() -> bool:
        return "step=2/" in " ".join(lines)

    await eventually("the second step", goes_on)
    process.kill()
    assert await process.wait() == 137


async def test_it_goes_on_beyond_its_steps_until_it_may_end(tmp_path: Path) -> None:
    file = tmp_path / "may-end"
    process, lines = training({"SANDBOX_STEPS": "2", "SANDBOX_UNTIL": str(file)})

    async def goes_on() -> bool:
        return "step=5/2" in " ".join(lines)

    await eventually("the fifth step", goes_on)
    file.touch()
    assert await process.wait() == 0


async def test_bad_knobs_are_said_in_the_log() -> None:
    process, lines = training({"SANDBOX_STEPS": "many"})
    assert await process.wait() == 2
    assert lines == ["bad environment: invalid literal for int() with base 10: 'many'"]


async def test_what_dies_during_its_dump_leaves_no_dump() -> None:
    process, _ = training({"SANDBOX_STEPS": "100000"})
    dump = asyncio.create_task(process.dump(10))
    await asyncio.sleep(0.01)
    process.kill()
    with pytest.raises(CheckpointError, match="ended during the dump"):
        await dump


async def test_sigterm_during_a_dump_is_seen_after_it() -> None:
    process, _ = training({"SANDBOX_STEPS": "100000"})
    dump = asyncio.create_task(process.dump(0.1))
    await asyncio.sleep(0.01)
    process.terminate()
    memory = await dump
    assert await process.wait() == 143
    assert memory["hostname"] == "host"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "one\ntwo\nthree\n"),
        ({"tailLines": "1"}, "three\n"),
        ({"tailLines": "0"}, ""),
        ({"limitBytes": "5"}, "one\nt"),
        ({"sinceSeconds": "60"}, "one\ntwo\nthree\n"),
        ({"sinceTime": "2999-01-01T00:00:00Z"}, ""),
    ],
)
async def test_reading_a_log(tmp_path: Path, query: dict[str, str], expected: str) -> None:
    log = ContainerLog(tmp_path / "0.log")
    for line in ("one", "two", "three"):
        log.write(line)
    parts = [part async for part in read_log(log.path, LogOptions.from_query(query), lambda: True)]
    assert b"".join(parts).decode() == expected


async def test_a_followed_log_ends_with_its_container(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path / "0.log")
    log.write("before")
    ended = asyncio.Event()
    parts = []
    async for part in read_log(log.path, LogOptions(follow=True), ended.is_set):
        parts.append(part)
        if not ended.is_set():
            log.write("after")
            ended.set()
    assert parts == [b"before\n", b"after\n"]
