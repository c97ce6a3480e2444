"""Many jobs side by side on one Temporal service: a world for each, and one market for all."""

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any

from temporalio import activity

from activities import signatures as act
from tests.simulation.simulation import Simulation
from tests.workflows.world import LONGEST_STEP, RUNNER, WORKFLOWS, World


class Estate:
    """So many jobs. What a VM's workflow asks for is done in its job's world, and what the market asks in the first.

    Args:
        env: where all of them run.
        jobs: how many.
        namespaces: of each of them; without any all are one team's.
    """

    def __init__(self, env: Simulation, jobs: int, namespaces: Sequence[str] = ()) -> None:
        self.env = env
        self.worlds = [World(env) for _ in range(jobs)]
        for number, world in enumerate(self.worlds):
            world.documents.name = f"llm-{number}"
            world.documents.namespace = namespaces[number] if namespaces else world.documents.namespace
            world.documents.uid = str(uuid.UUID(int=number + 1))
        self._of = {f"{world.documents.start.namespace}/{world.documents.name}": world for world in self.worlds}
        self._of_vm = {f"vm:{world.documents.start.job_id}": world for world in self.worlds}

    def worker(self) -> AbstractAsyncContextManager[Any]:
        """A worker for all of them."""
        activities = [self._activity(signature) for signature in act.ALL]
        return self.env.worker(WORKFLOWS, activities, RUNNER)

    def _activity(self, signature: act.Signature[Any, Any]) -> Callable[..., Any]:
        functions = {id(world): world.activity(signature) for world in self.worlds}

        async def run(request: Any) -> Any:
            return await functions[id(self._world(activity.info().workflow_id or ""))](request)

        run.__annotations__ = {"request": signature.takes, "return": signature.gives}
        return activity.defn(name=signature.name)(run)

    def _world(self, workflow_id: str) -> World:
        of_vm = self._of_vm.get(workflow_id.partition("-")[0])
        return of_vm or self._of.get(workflow_id, self.worlds[0])

    async def until(self, condition: Callable[[], Any], within: float, what: str) -> None:
        """Let virtual time pass until something is so; ``within`` so many seconds."""
        deadline = self.env.clock.now + timedelta(seconds=within)
        while not condition():
            left = (deadline - self.env.clock.now).total_seconds()
            if left <= 0:
                raise AssertionError(f"not within {within:.0f} s: {what}\n{self.worlds[0].told()}")
            await self._step(left)

    async def pass_time(self, seconds: float) -> None:
        """Let so much virtual time pass."""
        end = self.env.clock.now + timedelta(seconds=seconds)
        while self.env.clock.now < end:
            await self._step((end - self.env.clock.now).total_seconds())

    async def _step(self, longest: float) -> None:
        await self._flush()
        await self.env.settle()
        await self.env.sleep(min(longest, LONGEST_STEP, self.env.clock.next_in()))
        await self._flush()

    async def _flush(self) -> None:
        for world in self.worlds:
            await world.bridge.flush()
            if world.mistakes:
                raise world.mistakes[0]

    def creations(self) -> list[datetime]:
        """When a VM was asked for, of whatever job."""
        return sorted(call.at for world in self.worlds for call in world.of("create_vm"))
