"""Many jobs side by side on one Temporal service: a world for each, and one market for all."""

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any

from temporalio import activity

from activities import signatures as act
from tests.workflows import world as one
from tests.workflows.world import WORKFLOWS, Environment, World


class Estate:
    """Several jobs. The activities of a VM act in its job's world, and those of the market in the first.

    Args:
        env: where all of them run.
        jobs: how many.
        namespaces: of each of them; without any all are one team's.
    """

    def __init__(self, env: Environment, jobs: int, namespaces: Sequence[str] = ()) -> None:
        self.env = env
        self.worlds = [World(env) for _ in range(jobs)]
        for number, world in enumerate(self.worlds):
            world.documents.name = f"llm-{number}"
            world.documents.namespace = namespaces[number] if namespaces else world.documents.namespace
            world.documents.uid = str(uuid.UUID(int=number + 1))
        self._of = {f"{world.documents.start.namespace}/{world.documents.name}": world for world in self.worlds}
        self._of_vm = {f"vm:{world.documents.start.job_id}": world for world in self.worlds}

    def worker(self, workflows: Sequence[type] = WORKFLOWS, **options: Any) -> AbstractAsyncContextManager[Any]:
        """Run one worker for all of them while this is open."""
        activities = [self._activity(signature) for signature in act.ALL]
        return self.env.worker(workflows, activities, one.RUNNER, **options)

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
        """Let virtual time pass until the condition holds, for at most ``within`` seconds."""
        within *= self.worlds[0].patience
        deadline = self.env.clock.now + timedelta(seconds=within)
        while not condition():
            left = (deadline - self.env.clock.now).total_seconds()
            if left <= 0:
                raise AssertionError(f"not within {within:.0f} s: {what}\n{self.worlds[0].told()}")
            await self._step(left)

    async def pass_time(self, seconds: float) -> None:
        """Let so many seconds of virtual time pass."""
        end = self.env.clock.now + timedelta(seconds=seconds)
        while self.env.clock.now < end:
            await self._step((end - self.env.clock.now).total_seconds())

    async def _step(self, longest: float) -> None:
        await self._flush()
        await self.env.settle()
        await self.env.sleep(min(longest, one.LONGEST_STEP, self.env.clock.next_in()))
        await self._flush()

    async def _flush(self) -> None:
        for world in self.worlds:
            await world.bridge.flush()
            if world.mistakes:
                raise world.mistakes[0]

    def creations(self) -> list[datetime]:
        """List when VMs were requested, whichever job requested them."""
        return sorted(call.at for world in self.worlds for call in world.of("create_vm"))
