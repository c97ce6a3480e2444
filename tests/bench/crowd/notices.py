"""Notices to a crowd: from the mark on a node to the survivor's CheckpointBackup, as the API server's watch sees it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.bench.crowd.stage import Stage, every, say
from tests.bench.page import percentile

STORM_SECONDS = 900.0
SINGLE_SECONDS = 60.0
SETTLED_SECONDS = 5.0
"""How long a second CheckpointBackup for the same notice is looked for."""


@dataclass(frozen=True)
class Answers:
    """How notices were answered; seconds from each mark to the CheckpointBackup."""

    marked: int
    seconds: list[float]
    last: float
    """Seconds from the first mark to the last CheckpointBackup."""
    doubled: int
    spent: Counter[str] = field(default_factory=Counter)
    """Milliseconds of a processor that each process used until then."""
    marked_at: dict[str, float] = field(default_factory=dict)
    """When each job's node was marked, as a Unix time."""

    @property
    def lost(self) -> int:
        """Count the notices that were not answered in time."""
        return self.marked - len(self.seconds)

    def at(self, share: float) -> float:
        """Give a percentile of the seconds."""
        return percentile(self.seconds, share) if self.seconds else float("nan")


def trained_by(stage: Stage, replica: str = "0") -> dict[str, str]:
    """Find the node of this replica of each job of two whose replicas both run."""
    running: dict[str, dict[str, str]] = {}
    for pod in stage.players.pods.values():
        if pod.phase == "Running":
            running.setdefault(pod.job, {})[pod.replica] = pod.node
    return {job: nodes[replica] for job, nodes in running.items() if len(nodes) == 2}


async def singles(stage: Stage, jobs: Iterable[str]) -> Answers:
    """Mark one node after the other, each after the last one's answer."""
    nodes, began = trained_by(stage), time.monotonic()
    found = []
    for job in jobs:
        found.append(await _storm(stage, {job: nodes[job]}, SINGLE_SECONDS, 0.5))
    return Answers(
        len(found),
        [each for answers in found for each in answers.seconds],
        time.monotonic() - began,
        sum(answers.doubled for answers in found),
    )


async def storm(stage: Stage, jobs: Iterable[str]) -> Answers:
    """Mark a node of each of these jobs at once."""
    nodes = trained_by(stage)
    return await _storm(stage, {job: nodes[job] for job in jobs}, STORM_SECONDS, SETTLED_SECONDS)


async def _storm(stage: Stage, nodes: dict[str, str], seconds: float, settle: float) -> Answers:
    before = {job: set(stage.players.backups.get(job, ())) for job in nodes}
    marked: dict[str, float] = {}
    began, spent = time.monotonic(), stage.spent()

    async def mark(item: tuple[str, str]) -> None:
        job, node = item
        marked[job] = await stage.mark(node)

    def asked(job: str) -> list[float]:
        seen = stage.players.backups.get(job, {})
        return sorted(at for name, at in seen.items() if name not in before[job])

    await every(nodes.items(), mark)
    try:
        await stage.until(lambda: all(map(asked, nodes)), seconds, f"a CheckpointBackup for each of {len(nodes)} jobs")
    except TimeoutError as error:
        say(str(error))
    spent = stage.spent() - spent
    await asyncio.sleep(settle)
    answers = {job: times for job in nodes if (times := asked(job))}
    return Answers(
        marked=len(nodes),
        seconds=[times[0] - marked[job] for job, times in answers.items()],
        last=max((times[0] for times in answers.values()), default=began) - began,
        doubled=sum(len(times) > 1 for times in answers.values()),
        spent=spent,
        marked_at={job: at + time.time() - time.monotonic() for job, at in marked.items()},
    )
