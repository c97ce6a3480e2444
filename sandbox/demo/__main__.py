"""``python -m sandbox.demo``: show how trainings outlast their machines: two copies of one, or one on four machines.

The exit code is 1, with the reason, if they do not.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from sandbox.cloud import Cloud
from sandbox.demo.gang import GangStory, gang_summary
from sandbox.demo.narrator import Narrator, narrator
from sandbox.demo.story import Story
from sandbox.demo.summary import summary
from sandbox.errors import SandboxError
from sandbox.settings import MACHINE_KINDS, Settings

TIMINGS = {
    "SCHEDULE_WAIT": 5,
    "VERDICT_DELAY": 5,
    "RETRY": 2,
    "OWNER_CHECK": 30,
    "DRAIN": 20,
}
"""Shorter waits for Outlast: its usual ones are long beside a training of a minute (``api/timings.py``; seconds)."""


def main() -> int:
    """Tell the story, and return the exit code."""
    arguments = _arguments()
    settings = Settings(
        state_dir=arguments.state,
        speed=arguments.speed,
        machines=arguments.machines,
        product=True,
        product_env={f"OUTLAST_TIMING_{name}": str(seconds) for name, seconds in TIMINGS.items()},
    )
    voice = narrator()
    try:
        asyncio.run(_interruptible(_tell(settings, voice, gang=arguments.gang, keep=arguments.keep)))
    except SandboxError as error:
        print(f"\nThe demo failed: {error}\nLogs: {settings.logs}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        return 130
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.demo",
        description="Show how trainings outlast their machines; exit code 1 with the reason if they do not.",
    )
    parser.add_argument(
        "--gang", action="store_true", help="tell of one training on four machines, not of two copies of one"
    )
    parser.add_argument("--speed", type=float, default=10.0, help="emulated durations are divided by this (default 10)")
    parser.add_argument("--keep", action="store_true", help="keep the sandbox with its Web UI up until Ctrl-C")
    parser.add_argument("--machines", choices=MACHINE_KINDS, default="light", help="what a VM is (default: light)")
    parser.add_argument("--state", type=Path, default=Path(".sandbox"), help="the state directory (default: .sandbox)")
    arguments = parser.parse_args()
    if arguments.gang and arguments.machines != "light":
        parser.error("the story of a gang is told on light machines: leave out --machines")
    return arguments


async def _interruptible(story: Coroutine[Any, Any, None]) -> None:
    """Run to the end, or until Ctrl-C or SIGTERM. The sandbox is taken down in either case."""
    task = asyncio.create_task(story)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await task


async def _tell(settings: Settings, voice: Narrator, *, gang: bool, keep: bool) -> None:
    cloud = Cloud(settings, voice.say)
    story: Story | GangStory | None = None
    try:
        with voice.telling():
            with voice.step("A cloud in a box: Kubernetes, Temporal, a registry, an emulated GCE; Outlast in it"):
                await cloud.up()
            story = (GangStory if gang else Story)(settings, cloud.addresses, voice)
            await story.run()
        voice.print(gang_summary(story) if isinstance(story, GangStory) else summary(story))
        await _show(cloud, voice, keep=keep)
    except SandboxError as error:
        if keep and story:
            voice.print(f"\nFailed: {error}")
            await _show(cloud, voice, keep=keep)
        raise
    finally:
        await cloud.down()


async def _show(cloud: Cloud, voice: Narrator, *, keep: bool) -> None:
    """Say where to look, and keep the sandbox up if the user asked for that."""
    if keep:
        voice.print(f"\nTemporal's Web UI: {cloud.addresses['TEMPORAL_UI']}")
        voice.print(f"kubectl: set -a; . {cloud.settings.env_file}; set +a\nCtrl-C ends it.")
        await cloud.asked_to_stop.wait()
        return
    voice.print(
        "\nTo look around: `make sandbox` for a cloud of your own, `python -m sandbox.demo --keep` for this one."
    )
    voice.print("`python -m sandbox up --keep` shows what this run left in Temporal's Web UI.")


if __name__ == "__main__":
    sys.exit(main())
