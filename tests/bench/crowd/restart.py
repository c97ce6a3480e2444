"""A restart of the bridge in a crowd: how long until all is matched, what it said, and whether notices came first."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from sandbox.claims import free_port
from sandbox.processes import Process
from sandbox.product import REPOSITORY, variables
from tests.bench.crowd.notices import storm
from tests.bench.crowd.stage import Stage

BRIDGE = "bridge"
WATCHES = 8
MATCHED_SECONDS = 1200.0
QUIET_SECONDS = 10.0
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? ([0-9.e+-]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Restart:
    """What a new bridge did; seconds from the start of its process."""

    matched: float
    messages: int
    answered: float
    """When the last notice that had come while no bridge ran was answered."""


async def restart(stage: Stage, noticed: Sequence[str]) -> Restart:
    """End the bridge, mark a node of each of these jobs, and start a bridge whose metrics can be read; it stays."""
    await stage.bridge.stop()
    address = f"127.0.0.1:{free_port()}"
    environment = {
        **variables(stage.cloud.settings, stage.cloud.addresses),
        "TEMPORAL_CONFIG_FILE": os.devnull,
        "OUTLAST_POD": BRIDGE,
        "OUTLAST_METRICS_ADDRESS": address,
        "KUBECONFIG": str(stage.cloud.settings.state_dir / f"{BRIDGE}.kubeconfig"),
    }
    command, logs = [sys.executable, "-m", "crd_bridge"], stage.cloud.settings.state_dir
    bridge = stage.bridge = stage.others[BRIDGE] = Process(f"{BRIDGE}-again", command, logs, environment, REPOSITORY)
    marked = time.monotonic()
    answering = asyncio.create_task(storm(stage, noticed))
    await asyncio.sleep(2)  # the marks are made
    began = time.monotonic()
    await bridge.start()
    try:
        matched = await _matched(address) - began
        answers = await answering
        await asyncio.sleep(QUIET_SECONDS)
        said = await _metrics(address)
    finally:
        answering.cancel()
    messages = round(sum(said.get("outlast_bridge_signals", {}).values()))
    return Restart(matched, messages, answers.last - (began - marked))


async def _matched(address: str) -> float:
    """Wait until everything was listed and no key has work left; return when that was."""
    end = time.monotonic() + MATCHED_SECONDS
    while time.monotonic() < end:
        said = await _metrics(address)
        listed = len(said.get("outlast_bridge_lists", {}))
        if listed >= WATCHES and not sum(said.get("outlast_bridge_waiting", {"": 1.0}).values()):
            return time.monotonic()
        await asyncio.sleep(0.2)
    raise TimeoutError(f"the bridge has not matched everything after {MATCHED_SECONDS:.0f} s")


async def _metrics(address: str) -> dict[str, dict[str, float]]:
    """Read the samples by name and labels; empty before the process serves them."""
    timeout: Any = aiohttp.ClientTimeout(total=5)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://{address}/metrics") as answer,
        ):
            text = await answer.text()
    except (aiohttp.ClientError, TimeoutError):
        return {}
    found: dict[str, dict[str, float]] = {}
    for name, labels, value in _SAMPLE.findall(text):
        found.setdefault(name, {})[labels] = float(value)
    return found
