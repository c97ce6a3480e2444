"""The client of the control surface, which shows a running sandbox and does to it what the world does to a cloud.

The CLI, the demo and the tests that run the sandbox as a subprocess use it. ``control_server`` is the other end.
"""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path
from typing import Any, Literal

import aiohttp

from sandbox.errors import SandboxError
from sandbox.settings import Settings

Json = dict[str, Any]


class ControlClient:
    """Talks to the control surface of a running sandbox, in this process or another.

    Args:
        url: of the control surface.
        patience: seconds until a sandbox that says nothing counts as one that does not answer.
    """

    def __init__(self, url: str, patience: float = 60) -> None:
        self._url, self._patience = url, patience

    @classmethod
    def of(cls, settings: Settings) -> ControlClient:
        """Return the client of the sandbox that runs in the settings' state directory.

        Raises:
            SandboxError: no sandbox is up there.
        """
        url = read_env(settings.env_file).get("CONTROL_URL")
        if not url:
            raise SandboxError(f"no sandbox is up in {settings.state_dir}: start one with `python -m sandbox up`")
        return cls(url)

    async def status(self) -> Json:
        """Return ``addresses``, ``processes`` and ``vms``."""
        return await self._call("GET", "/status")

    async def vms(self) -> list[Json]:
        """Return the VMs that exist, as GCE's API shows them."""
        answer = await self._call("GET", "/vms")
        return list(answer["vms"])

    async def events(self, since: int = 0, wait: float = 0) -> list[Json]:
        """Return what happened to which VM and when (``sandbox.gce.Event``), without the first ``since`` events."""
        answer = await self._call("GET", f"/events?since={since}&wait={wait}")
        return list(answer["events"])

    async def preempt(self, name: str, notice: float | None = None) -> None:
        """Preempt a spot VM ``notice`` real seconds from now; its metadata server announces it at once.

        If ``notice`` is None, the VM's own notice counts: 30 s, or 150 s with a ``preemptionNoticeDuration`` of 120 s.
        Returns as soon as the notice is given.
        """
        await self._call("POST", f"/vms/{name}/preempt", {"notice": notice})

    async def silence(self, name: str) -> None:
        """Cut off a VM and end all that runs in it, while the cloud goes on to show it as RUNNING."""
        await self._call("POST", f"/vms/{name}/silence")

    async def fault(self, name: str, *args: Any, **options: Any) -> None:
        """Make the emulated cloud misbehave: call a method of ``sandbox.gce.faults.Faults`` by its name."""
        await self._call("POST", f"/faults/{name}", {"args": args, "options": options})

    async def trap(self, name: str, **options: Any) -> None:
        """Make the checkpoint operator misbehave; the options are those of ``CheckpointOperator.play``."""
        await self._call("POST", f"/traps/{name}", options)

    async def validator(self, verdict: Literal["fail", "heal"], **options: Any) -> None:
        """Make the GPU operator's validator fail on a ``node`` or on all nodes, or work again (``GpuOperator``)."""
        await self._call("POST", f"/validator/{verdict}", options)

    async def kill(self, process: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a child process a signal that ends it; returns once it has ended."""
        await self._call("POST", f"/processes/{process}/kill", {"signal": number.name})

    async def start(self, process: str) -> None:
        """Start a child process again."""
        await self._call("POST", f"/processes/{process}/start")

    async def cut(self, node: str) -> None:
        """Cut the power of a machine on which Outlast's own pods run (``product_pods.NODES``)."""
        await self._call("POST", f"/nodes/{node}/cut")

    async def boot(self, node: str) -> None:
        """Power on a machine on which Outlast's own pods run."""
        await self._call("POST", f"/nodes/{node}/boot")

    async def down(self) -> None:
        """Ask the sandbox to end, which takes some seconds after the answer."""
        await self._call("POST", "/down")

    async def _call(self, method: str, path: str, body: Json | None = None) -> Json:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._patience)) as session,
                session.request(method, f"{self._url}{path}", json=body) as answer,
            ):
                content: Json = await answer.json()
        except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
            words = str(error) or type(error).__name__
            raise SandboxError(f"the sandbox at {self._url} does not answer: {words}") from None
        if "error" in content:
            raise SandboxError(content["error"])
        return content


def read_env(path: Path) -> dict[str, str]:
    """Read the KEY=VALUE lines of ``sandbox.env``; none if there is no such file."""
    if not path.exists():
        return {}
    pairs = (shlex.split(line)[0].partition("=") for line in path.read_text().splitlines() if line)
    return {name: value for name, _, value in pairs}
