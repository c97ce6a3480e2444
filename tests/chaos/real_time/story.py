"""The demo's story of one job in a namespace of its own, with what must have been true in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sandbox.errors import SandboxError
from tests.chaos.real_time.books import machines, pods, restores
from tests.chaos.real_time.house import House
from tests.e2e.rig import Running, machine

STEPS = 6000  # five minutes of training at the house's speed: a worker that ends at forty calls is away for three
PATIENCE = 240.0  # seconds for each step of the story: a worker that was ended needs some to be back

Happens = Callable[[Running], Awaitable[None]]
"""What happens when a chapter has come, before the story goes on."""


async def nothing(_: Running) -> None:
    """Let nothing happen: the plain story."""


@dataclass
class Told:
    """One run of the story."""

    chapters: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


async def run(house: House, name: str, happens: Happens = nothing) -> Told:
    """Play it to its end. Whatever does not come true is a violation, too."""
    told = Told()
    try:
        await _tell(house, name, told, happens)
    except (AssertionError, SandboxError) as error:
        told.violations.append(f"after {told.chapters[-1:] or 'nothing'}: {error}")
    told.violations += house.ended
    house.ended.clear()
    return told


async def _tell(house: House, name: str, told: Told, happens: Happens) -> None:
    async def chapter(title: str) -> None:
        told.chapters.append(title)
        await happens(job)

    namespace = await house.namespace()
    job = Running(house, namespace, name)
    training = house.job(name, replicas=2, interval="5s", SANDBOX_STEPS=STEPS)
    await house.apply(namespace, machine(), house.credentials, training)
    await job.until(lambda: job.id, PATIENCE, "a workflow")
    await chapter("begun")
    await job.trains(0, 1, seconds=PATIENCE)
    await chapter("training")
    await job.checkpointed(PATIENCE)
    await chapter("checkpointed")
    before = job.training(0)
    await job.preempt(0)
    await chapter("noticed")
    await job.trains(0, seconds=PATIENCE, but=(before,))
    await chapter("restored")
    await job.completed(PATIENCE)
    await chapter("completed")
    await house.kubectl("delete", "namespace", namespace, "--wait=false")
    await chapter("deleted")
    await job.nothing_left(PATIENCE)
    told.violations += [*machines(house, job.id), *pods(house, job), *await restores(house, job)]
