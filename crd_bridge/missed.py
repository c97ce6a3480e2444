"""What was deleted while no bridge acted. A list cannot show it, but the API server knows it for a few minutes."""

import asyncio
import logging
from contextlib import aclosing

import aiohttp

from clients.kube import Json, Kube, KubeError
from clients.watch import Watch

log = logging.getLogger(__name__)

SILENCE = 5.0
"""Seconds without an event after which all were sent: the API server has them at hand."""
LONGEST = 60.0
"""Seconds for the events of one kind, of which there may be thousands."""


async def deletions(kube: Kube, watch: Watch, since: int) -> list[Json]:
    """Find the objects that were deleted between the version ``since`` and now, as they were last.

    There are none if the API server has forgotten that version or does not answer: then each job finds out for itself,
    when it looks at its replicas.
    """
    listed, resource = watch.position, watch.resource
    found: list[Json] = []
    if not since or since >= listed:
        return found
    query: Json = dict(resource.query)
    events = kube.follow(resource.path, str(since), lasts=LONGEST, silence=SILENCE, **query)
    try:
        async with asyncio.timeout(LONGEST), aclosing(events):
            async for event in events:
                item: Json = event["object"]
                if int(item["metadata"]["resourceVersion"]) > listed:
                    break
                if event["type"] == "DELETED":
                    found.append(item)
    except TimeoutError:
        pass  # nothing has happened since the list, so no more will come
    except (KubeError, aiohttp.ClientError, OSError, ValueError) as error:
        log.info("%s: what was deleted before this bridge began is not known: %s", resource.plural, error)
    return found
