"""Traps in a ConfigMap: one process plays them, and agents in other processes take them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

from sandbox.checkpoint_operator.traps import Trap, Traps
from sandbox.kube_client import ApiError, KubeClient

T = TypeVar("T")

_PATH = "/api/v1/namespaces/kube-system/configmaps/checkpoint-traps"


class SharedTraps:
    """The traps of one cluster. All who have a client of the cluster see the same traps."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def add(self, kind: str, phase: str | None, count: int, factor: float, namespace: str | None) -> None:
        """Play a trap, as ``Traps.add`` does.

        Raises:
            ApiError: the API server refuses the change.
            ValueError: the trap is unknown, or does not take these values.
        """
        await self._change(lambda traps: traps.add(kind, phase, count, factor, namespace))

    async def take(self, uid: str, namespace: str) -> Trap | None:
        """Take the trap of a CheckpointBackup, as ``Traps.take`` does.

        Raises:
            ApiError: the API server refuses the change.
        """
        return await self._change(lambda traps: traps.take(uid, namespace))

    async def _change(self, change: Callable[[Traps], T]) -> T:
        """Apply a change to the traps, and try again if somebody else was faster."""
        while True:
            config_map = await self._client.get(_PATH)
            before = config_map.get("data") or {}
            traps = _parse(before.get("traps", "{}"))
            result = change(traps)
            config_map["data"] = {"traps": _format(traps)}
            if config_map["data"] == before:
                return result
            try:
                await self._client.replace(_PATH, config_map)
                return result
            except ApiError as error:
                if error.status != 409:
                    raise


def _parse(text: str) -> Traps:
    content = json.loads(text)
    taken = {uid: Trap(**trap) for uid, trap in content.get("taken", {}).items()}
    return Traps([Trap(**trap) for trap in content.get("waiting", [])], taken)


def _format(traps: Traps) -> str:
    taken = {uid: asdict(trap) for uid, trap in traps.taken.items()}
    return json.dumps({"waiting": [asdict(trap) for trap in traps.waiting], "taken": taken})
