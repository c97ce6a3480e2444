"""The machine on which an agent runs: its kubelet, its disk, its clock, and whether it is still alive."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from sandbox.kube_client import UNREACHABLE, ApiError, KubeClient

DUMP_TIMEOUT = 300
PULSE_SECONDS = 0.5
"""Seconds of real time between two checks whether the machine is alive, while the agent works."""
PULSE_TIMEOUT = 10.0
"""A machine without power refuses at once; one that answers slowly is on a crowded computer."""


class AgentDied(Exception):
    """The agent's machine went down."""


class DumpFailed(Exception):
    """The kubelet could not make the checkpoint."""


class NodeAccess:
    """One machine, as its agent sees it. If it has no kubelet, no training runs there."""

    def __init__(self, name: str, kubelet: KubeClient | None, speed: float) -> None:
        self.name = name
        self._kubelet = kubelet
        self._speed = speed

    async def check(self) -> None:
        """Check that the machine is alive: the kubelet is on the same machine as the agent.

        Raises:
            AgentDied: the kubelet does not answer any more.
        """
        if self._kubelet is None:
            return
        try:
            await self._kubelet.call("GET", "/healthz", seconds=PULSE_TIMEOUT)
        except (ApiError, *UNREACHABLE) as error:
            raise AgentDied(f"node {self.name}: {error!r}") from error

    async def spend(self, seconds: float) -> None:
        """Be busy for an emulated duration.

        Raises:
            AgentDied: the machine went down meanwhile.
        """
        await self.stay(seconds / self._speed)

    async def stay(self, seconds: float) -> None:
        """Be busy for real seconds.

        Raises:
            AgentDied: the machine went down meanwhile.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, PULSE_SECONDS))
            await self.check()

    async def dump(self, namespace: str, pod: str, container: str) -> Path:
        """Make the kubelet checkpoint a container, and return the path of the archive.

        Raises:
            DumpFailed: the kubelet cannot make it.
            AgentDied: the machine went down.
        """
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
        """Close the connection to the kubelet."""
        if self._kubelet:
            await self._kubelet.close()
