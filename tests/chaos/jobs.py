"""The jobs of the stories: the first line of a script, as people would write it in their manifests."""

import contextlib
from collections.abc import Iterator
from random import Random
from typing import Any

from tests.chaos.script import Value
from tests.workflows.documents import vm_spec
from tests.workflows.gangs import FAIL_SECONDS
from tests.workflows.world import World
from workflows.common import continue_as_new as history

STORAGE = {"type": "gcs", "bucket": "b", "pathPrefix": "team/llm/"}
MAX_RESTARTS = 20  # more than a training fails in any schedule
GANGS = 0.15  # of all stories


def draw_job(rng: Random) -> dict[str, Value]:
    """Draw the most common job, or one with something special."""
    job: dict[str, Value] = {
        "replicas": rng.choice([1, 2, 2, 2, 3]),
        "steps": rng.choice([600, 900, 1500]),
        "interval": rng.choice([90, 180, 420]),
    }
    special: list[dict[str, Value]] = [
        {"keep": 1}, {"policy": "All"}, {"notice": 120}, {"mode": "Application"}, {"fallback": 5}, {"auto": 1},
    ]  # fmt: skip
    for one in special:
        if rng.random() < 0.12:
            job |= one
    if rng.random() < 0.4:
        job |= {"events": rng.choice([40, 70, 120, 250])}
    return job


def draw_gang(rng: Random) -> dict[str, Value]:
    """Draw what makes a job a gang, or nothing."""
    if rng.random() >= GANGS:
        return {}
    gang: dict[str, Value] = {
        "replicas": 1,
        "gang": rng.choice([2, 3, 3]),
        "mode": "Application",
        "peers": rng.choice(["fail", "fail", "hang"]),  # once another one has ended
        "agree": rng.choice([1, 1, 0]),  # whether a SIGTERM to one of them makes all save
    }
    gang |= {"least": rng.choice([int(gang["gang"]), int(gang["gang"]), 2, 1])}  # members without which it waits
    return gang | ({"near": 1} if rng.random() < 0.5 else {})


@contextlib.contextmanager
def runs_of(job: dict[str, Value]) -> Iterator[None]:
    """Let every workflow continue as new after so many ``events``, whatever it is doing, a recovery included.

    It is set for the whole story, because a worker that replays a history must come to the same decisions.
    """
    usual = history.EVENTS, history.EVENTS_IN_RECOVERY
    if "events" in job:
        history.EVENTS = history.EVENTS_IN_RECOVERY = int(job["events"])
    try:
        yield
    finally:
        history.EVENTS, history.EVENTS_IN_RECOVERY = usual


async def submit(world: World, job: dict[str, Value]) -> None:
    """Submit the job, as kubectl apply does."""
    notice = {"preemptionNoticeDuration": f"{job['notice']}s"} if "notice" in job else {}
    fallback = {"onDemandFallback": {"after": f"{job['fallback']}m", "maxReplicas": 1}} if "fallback" in job else {}
    world.documents.vm_spec = vm_spec(more=fallback, zones=["us-central1-b"], **notice)
    checkpoint: dict[str, Any] = {
        "checkpointInterval": "auto" if "auto" in job else f"{job['interval']}s",
        "onUnrestorable": "ColdStart",
        "retention": {"keepLast": job.get("keep", 3)},
    }
    if job.get("mode") == "Application":
        checkpoint |= {"mode": "Application", "checkpointStorage": STORAGE}
    gang: dict[str, Any] = {}
    if "gang" in job:
        gang = {"gang": {"minSize": job.get("least", job["gang"]), "maxSize": job["gang"]}}
        gang["gang"] |= {"placement": "Compact"} if "near" in job else {}
        world.cluster.gangs.agrees = bool(job["agree"])
        world.cluster.gangs.fails_after = None if job["peers"] == "hang" else FAIL_SECONDS
    await world.submit(
        **gang,
        outputs=["/out"] if "out" in job else [],
        replicas=int(job["replicas"]),
        maxRestarts=MAX_RESTARTS,
        completionPolicy=job.get("policy", "Any"),
        checkpoint=checkpoint,
    )
