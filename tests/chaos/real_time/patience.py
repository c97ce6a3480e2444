"""The observer of a cluster whose API server may be away for a while."""

from __future__ import annotations

import asyncio
import contextlib
import json

from sandbox.demo.observe import Observer
from sandbox.errors import SandboxError

AGAIN_SECONDS = 0.5


class PatientObserver(Observer):
    """Begins each watch again that ends, from what there is then; meanwhile it goes on showing what there was."""

    async def _follow(self, kind: str) -> None:
        while True:
            with contextlib.suppress(SandboxError):
                await self._read(kind)
                await super()._follow(kind)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _read(self, kind: str) -> None:
        """What went while nobody looked is in no watch."""
        found = json.loads(await self.kubectl("get", kind, "--all-namespaces", "-o", "json"))["items"]
        self._objects[kind] = {each["metadata"]["uid"]: each for each in found}
        self._changed.set()
