"""Servers are unreachable for a while. Trainings go on untouched, and everything catches up by itself."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from sandbox.errors import SandboxError
from tests.chaos.real_time.books import machines, pods, restores
from tests.chaos.real_time.house import SPEED, House
from tests.e2e.rig import Running, machine

SECONDS = 600 / SPEED
"""Ten minutes, in the time of the sandbox's trainings and of Outlast's own shortened waits."""
NOTICE_SECONDS = 10.0  # of the machine that is lost in the outage
AFTERWARDS = 120.0  # seconds in which all has to catch up
STEPS_PER_SECOND = SPEED  # of a training that nothing disturbs
SEEN_SECONDS = 75.0  # of an outage, until readiness must have reported it: polls, and failures in a row


@contextlib.asynccontextmanager
async def busy(house: House, status: int) -> AsyncIterator[None]:
    """Answer each call, as GCE does when it is busy."""
    await house.control.fault("unavailable", seconds=1_000_000, status=status)
    try:
        yield
    finally:
        await house.control.fault("unavailable", seconds=0)


Outage = Callable[[House], AbstractAsyncContextManager[None]]

OUTAGES: dict[str, Outage] = {
    "Temporal": lambda house: house.without(["temporal"]),
    "API server": lambda house: house.without(["kube-apiserver"]),
    "API server and etcd": lambda house: house.without(["kube-apiserver", "etcd"]),
    "worker": lambda house: house.without(["worker"]),
    "bridge": lambda house: house.without(["bridge"]),
    "registry": lambda house: house.frozen("registry"),  # if it were killed, it would lose its images
    "GCE 503": lambda house: busy(house, 503),
    "GCE 429": lambda house: busy(house, 429),
}

MISSED = {"Temporal": "Temporal has not answered", "API server": "Kubernetes has not answered"}
"""What both processes report as missing while they are not ready."""


async def endure(house: House, name: str, seconds: float) -> list[str]:
    """Let two jobs live through an outage of so many real seconds, and return the violations."""
    jobs = [Running(house, await house.namespace(), each) for each in ("endures", "loses")]
    found = list[str]()
    try:
        for job in jobs:
            training = house.job(job.name, replicas=2, interval="5s", SANDBOX_STEPS=1_000_000)
            await house.apply(job.namespace, machine(), house.credentials, training)
        for job in jobs:
            await job.trains(0, 1, seconds=AFTERWARDS)
            await job.checkpointed(AFTERWARDS)
        found += await _endure(house, *jobs, name, seconds)
    except (AssertionError, SandboxError) as error:
        found.append(str(error))
    try:
        await house.kubectl("delete", "namespace", *(job.namespace for job in jobs), "--wait=false")
        for job in jobs:
            await job.nothing_left(AFTERWARDS)
            found += [*machines(house, job.id), *pods(house, job), *await restores(house, job)]
    except (AssertionError, SandboxError) as error:
        found.append(str(error))
    found += house.ended
    house.ended.clear()
    return found


async def _endure(house: House, endures: Running, loses: Running, name: str, seconds: float) -> list[str]:
    """Let one job train on undisturbed, while the other loses a machine."""
    before = [(each.incarnation, each.pod) for each in (endures.training(0), endures.training(1))]
    steps = [endures.step(0), endures.step(1)]
    bought = _vms(house, endures)
    lost, survivor = loses.training(0), loses.training(1)
    for probes in house.probes.values():
        probes.unready.clear()
    async with OUTAGES[name](house):
        await loses.preempt(0, notice=NOTICE_SECONDS)
        await asyncio.sleep(seconds)
        found = [*await _told(house, name, seconds)]
    began = time.monotonic()
    await _caught_up(house, endures, [step + seconds * STEPS_PER_SECOND / 2 for step in steps])
    well = time.monotonic() - began
    await loses.trains(0, 1, seconds=AFTERWARDS, but=(lost,))
    recovered = time.monotonic() - began
    print(f"  after it all was well in {well:.1f} s, and what was lost in it trained in {recovered:.1f} s", flush=True)
    if [(each.incarnation, each.pod) for each in (endures.training(0), endures.training(1))] != before:
        found.append("a training was started again")
    if loses.training(1) != survivor:
        found.append("the survivor was started again")
    if _vms(house, endures) != bought:
        found.append("a machine was let go or bought")
    return found


def _vms(house: House, job: Running) -> set[str]:
    return {vm["name"] for vm in house.observer.vms if f"-{job.id}-" in vm["name"]}


async def _told(house: House, name: str, seconds: float) -> list[str]:
    """Check during the outage that whoever misses the server says so, and goes on."""
    found = list[str]()
    if name not in MISSED or seconds < SEEN_SECONDS:
        return found
    for process, probes in house.probes.items():
        side = MISSED[name].partition(" ")[0]
        measured = await probes.measured("outlast_unreachable_seconds", side=side)
        print(f"  {process}: {probes.unready}; {measured}", flush=True)
        if not any(MISSED[name] in each for each in probes.unready):
            found.append(f"{process} did not say that it misses it")
        if (measured or 0) < seconds / 2:
            found.append(f"the metrics of the {process} do not tell of it")
    return found


async def _caught_up(house: House, job: Running, steps: list[float]) -> None:
    """Check that the trainings have gone on, that checkpoints are made again, and that the processes are ready."""
    done = len(job.completed_backups())
    await job.until(lambda: len(job.completed_backups()) > done, AFTERWARDS, "a checkpoint after the outage")
    await job.until(lambda: job.run(2), AFTERWARDS, "both replicas Running")
    told = lambda: job.step(0) > steps[0] and job.step(1) > steps[1]  # noqa: E731
    await job.until(told, AFTERWARDS, f"the steps of the time of the outage, {steps}")
    await job.until(lambda: all(each.ready for each in house.probes.values()), AFTERWARDS, "readiness")
