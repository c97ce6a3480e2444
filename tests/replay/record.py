"""`python -m tests.replay.record`: tells stories, and keeps their histories for the replay test.

The demo's story in a sandbox: a job, a VM and a market. Then the paths that it does not take; only these: ``paths``.

To be run where the test reports a difference that is meant: a new order of steps, another argument, another wait.
Workflows that are open while such a change is rolled out keep their old order only by ``workflow.patched``.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError, WorkflowHistory

from api import names
from sandbox import binaries
from sandbox.cloud import Cloud
from sandbox.demo.__main__ import TIMINGS
from sandbox.demo.manifests import NAMESPACE
from sandbox.demo.narrate import narrator
from sandbox.demo.story import Story
from sandbox.settings import Settings
from tests.replay.paths import histories
from tests.replay.recorded import write

SPEED = 10.0


def main() -> int:
    """Record; returns the exit code."""
    if sys.argv[1:] != ["paths"]:
        with tempfile.TemporaryDirectory(prefix="outlast-record-") as directory:
            asyncio.run(_record(Path(directory) / "sandbox"))
    asyncio.run(_record_paths())
    return 0


async def _record_paths() -> None:
    async for name, history in histories(await binaries.ensure()):
        _write(name, history)


async def _record(state_dir: Path) -> None:
    settings = Settings(
        state_dir=state_dir,
        speed=SPEED,
        product=True,
        product_env={f"OUTLAST_TIMING_{name}": str(seconds) for name, seconds in TIMINGS.items()},
    )
    voice = narrator()
    async with Cloud(settings, voice.say) as cloud:
        story = Story(settings, cloud.addresses, voice)
        with voice.telling():
            await story.run()
        client = await Client.connect(cloud.addresses["TEMPORAL_ADDRESS"])
        await _keep(client, "job", names.job_workflow_id(NAMESPACE, story.samples.job))
        # The machine that was taken away: bought, joined, noticed, lost and cleared away.
        key = names.vm_key_of(story.recoveries[0].vm)
        assert key is not None, f"{story.recoveries[0].vm} is no name of ours"
        await _keep(client, "vm", names.vm_workflow_id(key))
        market = names.market_workflow_id("my-project")  # of the samples, which has no end of its own
        await client.get_workflow_handle(market).terminate("recorded")
        await _keep(client, "market", market)


async def _keep(client: Client, name: str, workflow_id: str) -> None:
    """Wait for the workflow's end, for a VM's comes after the job's, and write its history."""
    handle = client.get_workflow_handle(workflow_id)
    with contextlib.suppress(WorkflowFailureError):  # terminated: the market
        await asyncio.wait_for(handle.result(), 60)
    _write(name, await handle.fetch_history())


def _write(name: str, history: WorkflowHistory) -> None:
    path = write(name, _anonymous(history))
    print(f"{path}: {path.stat().st_size // 1024} KiB of {history.workflow_id}", file=sys.stderr)


def _anonymous(history: WorkflowHistory) -> WorkflowHistory:
    """Without the names of the machine and the processes that recorded it."""
    for event in history.events:
        attributes = getattr(event, event.WhichOneof("attributes"))
        if "identity" in attributes.DESCRIPTOR.fields_by_name:
            attributes.identity = "recorded"
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            attributes.ClearField("binary_checksum")
    return history


if __name__ == "__main__":
    sys.exit(main())
