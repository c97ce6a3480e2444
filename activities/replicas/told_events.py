"""The Events of pods and Jobs, read for all who ask at the same time.

The API server has no index of Events. Each list reads all of the namespace, whatever it selects: while a thousand jobs
started at once, two thousand such lists took six seconds each (measured).
"""

import asyncio

from clients.kube import Json, Kube, path
from clients.turns import Call, Turns

EVENTS_READ = 200
"""Events read for one pod or Job: its tenant may create any number of them."""
FEW = 3
"""So many askers get a list each, which sends less."""
MOST = 20_000
"""Events of one namespace that are looked through for many askers, some twenty megabytes."""


class ToldEvents:
    """The Events of one process's readers. ``kube`` may list Events in any namespace."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._turns = Turns(self._read)

    async def about(self, namespace: str, uid: str) -> list[Json]:
        """List the Events that regard the object with this UID."""
        return await self._turns.ask(namespace, uid)

    async def _read(self, namespace: str, calls: list[Call[str, list[Json]]]) -> None:
        where = path("events.k8s.io/v1", "events", namespace)
        wanted = {call.item for call in calls}
        if len(wanted) <= FEW:
            lists = (self._kube.some(where, EVENTS_READ, fieldSelector=f"regarding.uid={uid}") for uid in wanted)
            found = dict(zip(wanted, await asyncio.gather(*lists), strict=True))
        else:
            found = await self._read_all(where, wanted)
        for call in calls:
            call.succeed(found[call.item])

    async def _read_all(self, where: str, wanted: set[str]) -> dict[str, list[Json]]:
        found: dict[str, list[Json]] = {uid: [] for uid in wanted}
        looked_at = 0
        async for event in self._kube.each(where):
            about = found.get((event.get("regarding") or {}).get("uid", ""))
            if about is not None and len(about) < EVENTS_READ:
                about.append(event)
            looked_at += 1
            if looked_at >= MOST:
                break
        return found
