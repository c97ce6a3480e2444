"""Following one job: a watch, made anew when it ends or breaks."""

import asyncio
from contextlib import aclosing
from datetime import datetime

import aiohttp

from api import names
from cli.session import Cluster
from cli.times import now
from clients.kube import Json, KubeError, path, selector

SILENCE = 75.0
"""Seconds after which a watch without a bookmark counts as broken."""
LASTS = 300.0
"""Seconds for which one watch lasts."""
AGAIN = 2.0
"""Seconds between two watches."""


async def next_change(cluster: Cluster, job: Json, deadline: datetime | None) -> Json | None:
    """Return the job once it has changed, the same one if it has not until the deadline, and None if it is gone.

    A cluster that does not answer is asked again until the deadline.
    """
    while True:
        left = (deadline - now()).total_seconds() if deadline is not None else LASTS
        if left <= 0:
            return job
        try:
            return await _watched(cluster, job, min(left, LASTS))
        except _Nothing:
            pass
        except (TimeoutError, aiohttp.ClientError):
            await asyncio.sleep(AGAIN)
        except KubeError as error:  # a version that is too old, or a server that is about to end
            if error.status in (401, 403):
                raise
            await asyncio.sleep(AGAIN)
        found = await cluster.kube.find(cluster.job_path(job["metadata"]["name"]))
        if found is None or found["metadata"]["resourceVersion"] != job["metadata"]["resourceVersion"]:
            return found


class _Nothing(Exception):
    """The watch ended before the job changed."""


async def _watched(cluster: Cluster, job: Json, seconds: float) -> Json | None:
    meta = job["metadata"]
    events = cluster.kube.follow(
        path(names.API_VERSION, names.JOB_PLURAL, cluster.namespace),
        meta["resourceVersion"],
        lasts=seconds,
        silence=min(seconds + 1, SILENCE),
        fieldSelector=selector({"metadata.name": meta["name"]}),
    )
    async with aclosing(events):
        async for event in events:
            if event["type"] == "DELETED":
                return None
            if event["type"] in ("ADDED", "MODIFIED"):
                found: Json = event["object"]
                return found
    raise _Nothing
