"""The machine that an agent runs on: its kubelet, its disk, its clock, and whether it still lives."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from sandbox.kube_client import UNREACHABLE, ApiError, KubeClient

DUMP_TIMEOUT = 300
PULSE_SECONDS = 0.5
"""Real seconds between looks at whether the machine lives, while the agent works."""
PULSE_TIMEOUT = 10.0
"""A machine without power refuses at once; one that is slow to answer stands on a crowded computer."""


class AgentDied(Exception):
    """The agent's machine went down under it."""


class DumpFailed(Exception):
    """The kubelet could not make the checkpoint."""


class NodeAccess:
    """One machine, as its agent sees it. Without a kubelet it is one on which no training runs."""

    def __init__(self, name: str, kubelet: KubeClient | None, speed: float) -> None:
        self.name = name
        self._kubelet = kubelet
        self._speed = speed

    async def check(self) -> None:
        """Raise AgentDied where the kubelet no longer answers: it is on the same machine as the agent."""
        if self._kubelet is None:
            return
        try:
            await self._kubelet.call("GET", "/healthz", seconds=PULSE_TIMEOUT)
        except (ApiError, *UNREACHABLE) as error:
            raise AgentDied(f"node {self.name}: {error!r}") from error

    async def spend(self, seconds: float) -> None:
        """Be busy for an emulated duration. Raises AgentDied where the machine goes down meanwhile."""
        await self.stay(seconds / self._speed)

    async def stay(self, seconds: float) -> None:
        """Be busy for real seconds. Raises AgentDied where the machine goes down meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, PULSE_SECONDS))
            await self.check()

    async def dump(self, namespace: str, pod: str, container: str) -> Path:
        """Let the kubelet checkpoint a container; the archive. Raises DumpFailed or AgentDied."""
        if self._kubelet is None:
            raise DumpFailed(f"no kubelet on node {self.name}")
        path = f"/checkpoint/{namespace}/{pod}/{container}?timeout={DUMP_TIMEOUT}"
        try:
            answer = await self._kubelet.call("POST", path, seconds=DUMP_TIMEOUT)
        except (ApiError, *UNREACHABLE) as error:
            await self.check()
            raise DumpFailed(str(error)) from error
        return Path(answer["items"][0])

    async def close(self) -> None:
        """End the connection to the kubelet."""
        if self._kubelet:
            await self._kubelet.close()
