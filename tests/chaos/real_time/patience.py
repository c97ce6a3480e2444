"""Eyes on a cluster whose API server may be away for a while."""

from __future__ import annotations

import asyncio

from sandbox.demo.observe import Observer
from sandbox.demo.trainings import Training, Trainings
from sandbox.errors import SandboxError

AGAIN_SECONDS = 0.5


class PatientObserver(Observer):
    """Begins each watch again that ends; meanwhile it goes on showing what there was."""

    async def _follow(self, kind: str) -> None:
        while True:
            try:
                await super()._follow(kind)
            except* (SandboxError, ValueError):  # a line may be cut in the middle
                pass
            await asyncio.sleep(AGAIN_SECONDS)


class PatientTrainings(Trainings):
    """Follows each log again that breaks off before its training was done."""

    def wants_more(self, training: Training) -> bool:
        return not training.done
