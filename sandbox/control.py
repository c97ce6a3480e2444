"""The client of the control surface: what a running sandbox is, and what the world does to it.

The CLI, the demo and the tests that run the sandbox as a subprocess speak through it to `control_server`.
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
    """Speaks to the control surface of a running sandbox, in this process or another."""

    def __init__(self, url: str) -> None:
        self._url = url

    @classmethod
    def of(cls, settings: Settings) -> ControlClient:
        """The client of the sandbox that runs in the settings' state directory.

        Raises:
            SandboxError: where none has come up there.
        """
        url = read_env(settings.env_file).get("CONTROL_URL")
        if not url:
            raise SandboxError(f"no sandbox is up in {settings.state_dir}: start one with `python -m sandbox up`")
        return cls(url)

    async def status(self) -> Json:
        """`addresses`, `processes` and `vms`."""
        return await self._call("GET", "/status")

    async def vms(self) -> list[Json]:
        """The VMs that exist, as GCE's API shows them."""
        answer = await self._call("GET", "/vms")
        return list(answer["vms"])

    async def events(self, since: int = 0, wait: float = 0) -> list[Json]:
        """What happened to which VM and when (`sandbox.gce.Event`), in order; without the first `since` of them.

        Where there is none after those, waits for one for `wait` seconds, ten at most.
        """
        answer = await self._call("GET", f"/events?since={since}&wait={wait}")
        return list(answer["events"])

    async def preempt(self, name: str, notice: float | None = None) -> None:
        """Take a spot VM away, `notice` seconds (of real time) from now; its metadata server says so at once.

        Where it is None, after the VM's own notice: 30 s, or 150 s with a `preemptionNoticeDuration` of 120 s.

        Returns as soon as the notice is out.
        """
        await self._call("POST", f"/vms/{name}/preempt", {"notice": notice})

    async def fault(self, name: str, *args: Any, **options: Any) -> None:
        """Let the emulated cloud misbehave: call a method of `sandbox.gce.faults.Faults` by name."""
        await self._call("POST", f"/faults/{name}", {"args": args, "options": options})

    async def trap(self, name: str, **options: Any) -> None:
        """Let the checkpoint operator misbehave: what `sandbox.checkpoint_operator.CheckpointOperator.play` takes."""
        await self._call("POST", f"/traps/{name}", options)

    async def validator(self, verdict: Literal["fail", "heal"], **options: Any) -> None:
        """Let the GPU operator's validator fail on a `node`, or on all of them, or work again: `GpuOperator`."""
        await self._call("POST", f"/validator/{verdict}", options)

    async def kill(self, process: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a child process that ends it; returns once it has ended."""
        await self._call("POST", f"/processes/{process}/kill", {"signal": number.name})

    async def start(self, process: str) -> None:
        """Start a child process again."""
        await self._call("POST", f"/processes/{process}/start")

    async def down(self) -> None:
        """Ask the sandbox to end; it takes some seconds after the answer."""
        await self._call("POST", "/down")

    async def _call(self, method: str, path: str, body: Json | None = None) -> Json:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
                session.request(method, f"{self._url}{path}", json=body) as answer,
            ):
                content: Json = await answer.json()
        except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
            raise SandboxError(f"the sandbox at {self._url} does not answer: {error or type(error).__name__}") from None
        if "error" in content:
            raise SandboxError(content["error"])
        return content


def read_env(path: Path) -> dict[str, str]:
    """The KEY=VALUE lines of `sandbox.env`; empty where there is no such file."""
    if not path.exists():
        return {}
    pairs = (shlex.split(line)[0].partition("=") for line in path.read_text().splitlines() if line)
    return {name: value for name, _, value in pairs}
