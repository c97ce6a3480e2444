"""Checkpoints that a light training keeps by itself, where `/etc/outlast` says: its step, and the manifest last."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import aiohttp

MANIFEST = "outlast.json"
STATE = "state.json"
SECONDS = 5.0
"""Time-out of one request."""


@dataclass(frozen=True)
class OwnCheckpoints:
    """What one incarnation saves, and what it was told to go on from."""

    bucket: str
    """URL of the bucket."""
    prefix: str
    restored_from: str

    @classmethod
    def told_by(cls, directory: Path | None) -> OwnCheckpoints | None:
        """Read the files of `/etc/outlast`; None where they name no bucket at an endpoint that asks for no key."""
        told = (
            {file.name: file.read_text().strip() for file in directory.iterdir() if file.is_file()} if directory else {}
        )
        endpoint, bucket, prefix = (told.get(f"storage{name}", "") for name in ("Endpoint", "Bucket", "Prefix"))
        if not (endpoint and bucket and prefix):
            return None
        return cls(f"{endpoint}/{bucket}", prefix, told.get("restoredFrom", ""))

    async def load(self) -> int:
        """The step to go on from; 0 where there is nothing."""
        if not self.restored_from:
            return 0
        async with self._session() as session, session.get(f"{self.bucket}/{self.restored_from}/{STATE}") as answer:
            answer.raise_for_status()
            return int(json.loads(await answer.read())["step"])

    async def save(self, step: int) -> str:
        """Upload it, the manifest last; gives where it lies."""
        path = f"{self.prefix}/step-{step:06d}"
        state = json.dumps({"step": step}).encode()
        manifest = json.dumps({"version": 1, "progress": step, "files": {STATE: len(state)}}).encode()
        async with self._session() as session:
            for name, body in ((STATE, state), (MANIFEST, manifest)):
                async with session.put(f"{self.bucket}/{path}/{name}", data=body) as answer:
                    answer.raise_for_status()
        return path

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS))
