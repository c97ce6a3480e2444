"""Servers that are away for a while, while trainings run: these go on untouched, and all catches up by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from sandbox.errors import SandboxError
from tests.chaos.real_time.house import SPEED, House
from tests.e2e.rig import Running, machine

SECONDS = 600 / SPEED
"""Ten minutes, in the time of the sandbox's trainings and of Outlast's own shortened waits."""
AFTERWARDS = 120.0  # seconds to catch up in


@contextlib.asynccontextmanager
async def busy(house: House, status: int) -> AsyncIterator[None]:
    """GCE answers every call so."""
    await house.control.fault("unavailable", seconds=10 * SECONDS, status=status)
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
    "registry": lambda house: house.without(["registry"]),
    "GCE 503": lambda house: busy(house, 503),
    "GCE 429": lambda house: busy(house, 429),
}


async def endure(house: House, name: str) -> list[str]:
    """One job trains through the outage; gives the violations."""
    namespace = await house.namespace()
    job = Running(house, namespace, "endures")
    try:
        await house.apply(
            namespace, machine(), house.credentials, house.job("endures", replicas=2, SANDBOX_STEPS=1_000_000)
        )
        await job.trains(0, 1, seconds=AFTERWARDS)
        await job.checkpointed(AFTERWARDS)
        before = [(each.incarnation, each.pod) for each in (job.training(0), job.training(1))]
        machines = {vm["name"] for vm in house.observer.vms}
        async with OUTAGES[name](house):
            await asyncio.sleep(SECONDS)
        return await _caught_up(house, job, before, machines)
    except (AssertionError, SandboxError) as error:
        return [f"{name}: {error}"]
    finally:
        with contextlib.suppress(SandboxError):
            await house.kubectl("delete", "namespace", namespace, "--wait=false")
            await job.nothing_left(AFTERWARDS)


async def _caught_up(house: House, job: Running, before: list[tuple[int, str]], machines: set[str]) -> list[str]:
    """Nothing was started again or bought, and checkpoints come again."""
    done = len(job.completed_backups())
    await job.until(lambda: len(job.completed_backups()) > done, AFTERWARDS, "a checkpoint after the outage")
    await job.until(lambda: job.run(2), AFTERWARDS, "both replicas Running")
    found = []
    if [(each.incarnation, each.pod) for each in (job.training(0), job.training(1))] != before:
        found.append("a training was started again")
    if {vm["name"] for vm in house.observer.vms} != machines:
        found.append("a machine was let go or bought")
    return found
