"""`python -m tests.replay.record`: play stories, and keep their histories for the replay test.

They are the demo's story in a sandbox (a job, a VM and a market), and the paths that it does not take. With the
argument ``paths`` only these are played.

Run it once before a release (docs/releasing.md). It writes into the folders of the version that `pyproject.toml` names,
together with the states that runs hand on and the schemas of all that the version writes and reads. What a release did
is never recorded again: a change of the steps goes behind ``patched``.
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
from sandbox.demo.narrator import narrator
from sandbox.demo.story import Story
from sandbox.settings import Settings
from tests.replay import continued, patches, schemas
from tests.replay.paths import histories
from tests.replay.recorded import write
from tests.replay.releases import ReleasedError, folder, version

SPEED = 10.0


def main() -> int:
    """Record, and return the exit code."""
    try:
        for path in [*schemas.write(version()), patches.write(version()), *asyncio.run(continued.write(version()))]:
            print(path, file=sys.stderr)
        folder("histories", version())
    except ReleasedError as error:
        print(f"make histories: {error}", file=sys.stderr)
        return 1
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
        # The machine that was preempted: bought, joined, noticed, lost and deleted.
        key = names.vm_key_of(story.recoveries[0].vm)
        assert key is not None, f"{story.recoveries[0].vm} is no name of ours"
        await _keep(client, "vm", names.vm_workflow_id(key))
        market = names.market_workflow_id("my-project")  # of the samples; it does not end by itself
        await client.get_workflow_handle(market).terminate("recorded")
        await _keep(client, "market", market)


async def _keep(client: Client, name: str, workflow_id: str) -> None:
    """Wait for the end of the workflow, because a VM's comes after the job's, and write its history."""
    handle = client.get_workflow_handle(workflow_id)
    with contextlib.suppress(WorkflowFailureError):  # the market is terminated
        await asyncio.wait_for(handle.result(), 60)
    _write(name, await handle.fetch_history())


def _write(name: str, history: WorkflowHistory) -> None:
    path = write(name, _anonymous(history))
    print(f"{path}: {path.stat().st_size // 1024} KiB of {history.workflow_id}", file=sys.stderr)


def _anonymous(history: WorkflowHistory) -> WorkflowHistory:
    """Remove the names of the machine and the processes that recorded it."""
    for event in history.events:
        attributes = getattr(event, event.WhichOneof("attributes"))
        if "identity" in attributes.DESCRIPTOR.fields_by_name:
            attributes.identity = "recorded"
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            attributes.ClearField("binary_checksum")
    return history


if __name__ == "__main__":
    sys.exit(main())
