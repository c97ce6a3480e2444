"""The kubelet's part: it asks a process by the probes of its manifest, and ends it if they fail too often."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from sandbox.processes import Process

BASE = Path(__file__).parents[3] / "deploy" / "base"
MANIFESTS = {"worker": BASE / "worker" / "worker.yaml", "bridge": BASE / "bridge.yaml"}


@dataclass
class Probes:
    """The probes of one process, whose probes and metrics are served at these addresses (host:port)."""

    process: Process
    health: str
    metrics: str
    ended: list[str]
    """What a probe has ended, for others to read."""
    unready: list[str] = field(default_factory=list)
    """Why it was not ready, each time that it stopped being so."""
    ready: bool = False

    async def run(self) -> None:
        """Ask until cancelled."""
        pod = yaml.safe_load(MANIFESTS[self.process.name].read_text())["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        await asyncio.gather(self._live(container["livenessProbe"]), self._look(container["readinessProbe"]))

    async def _live(self, probe: dict[str, Any]) -> None:
        failures, asked = 0, None
        while True:
            await asyncio.sleep(probe["periodSeconds"])
            if (
                self.process.pid is None or self.process.pid != asked
            ):  # while it starts, the startup probe is asked instead
                failures, asked = 0, self.process.pid
                continue
            said = await self._ask(probe)
            failures = failures + 1 if said else 0
            if failures >= probe["failureThreshold"]:
                self.ended.append(f"{self.process.name} was ended by its liveness probe: {said}")
                await self.process.kill()
                failures = 0

    async def _look(self, probe: dict[str, Any]) -> None:
        failures = 0
        while True:
            said = await self._ask(probe)
            failures = failures + 1 if said else 0
            if not said:
                self.ready = True
            if failures == probe["failureThreshold"]:
                self.ready = False
                self.unready.append(said)
            await asyncio.sleep(probe["periodSeconds"])

    async def _ask(self, probe: dict[str, Any]) -> str:
        """Say what is wrong; empty if nothing is."""
        url = f"http://{self.health}{probe['httpGet']['path']}"
        timeout = aiohttp.ClientTimeout(total=probe["timeoutSeconds"])
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
                return "" if answer.status == 200 else (await answer.text()).strip()
        except (aiohttp.ClientError, TimeoutError) as error:
            return str(error) or "no answer in time"

    async def measured(self, name: str, **labels: str) -> float | None:
        """Read one of its metrics; None if it has none of this name."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.metrics}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        found = [line for line in lines if line.startswith(f"{name}{{") and all(each in line for each in wanted)]
        return float(found[0].split()[-1]) if found else None
