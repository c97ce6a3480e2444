"""Checkpoints that a light training saves itself as ``/etc/outlast`` says: its step, then the manifest.

It may play a training of several processes, each of which saves a part with a manifest of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import aiohttp

MANIFEST = "outlast.json"
STATE = "state.json"
SECONDS = 5.0
"""The timeout of one request, in seconds."""


@dataclass(frozen=True)
class OwnCheckpoints:
    """What one incarnation saves, and from what it continues."""

    bucket: str
    """The URL of the bucket."""
    prefix: str
    restored_from: str

    @classmethod
    def told_by(cls, directory: Path | None) -> OwnCheckpoints | None:
        """Read the files of ``/etc/outlast``; None if they name no bucket at an endpoint that needs no key."""
        told = (
            {file.name: file.read_text().strip() for file in directory.iterdir() if file.is_file()} if directory else {}
        )
        endpoint, bucket, prefix = (told.get(f"storage{name}", "") for name in ("Endpoint", "Bucket", "Prefix"))
        if not (endpoint and bucket and prefix):
            return None
        return cls(f"{endpoint}/{bucket}", prefix, told.get("restoredFrom", ""))

    async def load(self) -> int:
        """Return the step to continue from, 0 if there is none."""
        if not self.restored_from:
            return 0
        async with self._session() as session, session.get(f"{self.bucket}/{self.restored_from}/{STATE}") as answer:
            answer.raise_for_status()
            return int(json.loads(await answer.read())["step"])

    async def save(self, step: int) -> str:
        """Upload a step, then its manifest, and return the path."""
        path = f"{self.prefix}/step-{step:06d}"
        state = json.dumps({"step": step}).encode()
        manifest = {"version": 1, "progress": step, "files": {STATE: len(state)}}
        await self._put(path, {STATE: state, MANIFEST: json.dumps(manifest).encode()})
        return path

    async def save_sharded(self, step: int, ranks: range, world: int) -> str:
        """Upload what these of ``world`` processes would, the first one last, and return the path."""
        path = f"{self.prefix}/{step:012d}"
        for rank in reversed(ranks):
            name = f"state-{rank}.json" if rank else STATE
            state = json.dumps({"step": step}).encode()
            manifest = {"version": 2, "progress": step, "files": {name: len(state)}}
            await self._put(path, {name: state, f"outlast-{rank}-of-{world}.json": json.dumps(manifest).encode()})
        return path

    async def _put(self, path: str, files: dict[str, bytes]) -> None:
        async with self._session() as session:
            for name, body in files.items():
                async with session.put(f"{self.bucket}/{path}/{name}", data=body) as answer:
                    answer.raise_for_status()

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS))
