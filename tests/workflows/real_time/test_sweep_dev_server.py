"""What only the real server shows of the sweep: its Schedule, and what one sweep hands on to the next."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from activities import signatures as act
from api import names
from sandbox.binaries import Binaries
from tests.bridge.recorder import eventually
from tests.workflows.dev_server import quick_world
from tests.workflows.documents import refused
from tests.workflows.world import World
from worker.settings import from_environment
from worker.sweeping import ensure_schedule

SETTINGS = from_environment({})


@pytest.fixture
async def real(executables: Binaries, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Make a quick world on a dev server of its own, in which Leases cannot be listed."""
    async with quick_world(executables, monkeypatch) as made:
        monkeypatch.setattr(made.fleet, "find_orphaned_claims", refuse)
        async with made.worker():
            yield made


def refuse(_: act.SweepRequest) -> act.OrphanedClaims:
    raise refused("leases is forbidden")


async def test_a_paused_schedule_stays_paused_when_a_worker_starts(real: World) -> None:
    await ensure_schedule(real.env.client, SETTINGS, "c1")
    handle = real.env.client.get_schedule_handle(names.SWEEP_SCHEDULE)
    await handle.pause(note="the projects are being moved")
    await ensure_schedule(real.env.client, SETTINGS, "c1")
    state = (await handle.describe()).schedule.state
    assert (state.paused, state.note) == (True, "the projects are being moved")


async def test_workers_that_start_in_one_moment_do_not_stand_in_each_others_way(real: World) -> None:
    for _ in range(3):  # the first time there is none yet
        await asyncio.gather(*(ensure_schedule(real.env.client, SETTINGS, "c1") for _ in range(8)))
    found = await real.env.client.get_schedule_handle(names.SWEEP_SCHEDULE).describe()
    assert [each.every for each in found.schedule.spec.intervals] == [SETTINGS.sweep.interval]


async def test_the_second_failure_in_a_row_is_known_by_the_first_ones_result(real: World) -> None:
    await ensure_schedule(real.env.client, SETTINGS, "c1")
    handle = real.env.client.get_schedule_handle(names.SWEEP_SCHEDULE)

    async def sweep(times: int) -> None:
        async def over() -> bool:
            info = (await handle.describe()).info
            return info.num_actions == times and not info.running_actions

        await handle.trigger()
        await eventually(over, f"sweep {times} to be over")

    await sweep(1)
    assert real.fleet.alarms == []
    await sweep(2)
    (alarm,) = real.fleet.alarms
    assert "two sweeps in a row could not look for Leases" in alarm.message
