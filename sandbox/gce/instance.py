"""One VM as Compute Engine sees it: its resource, its status, and one transition at a time."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from sandbox.gce.blueprint import Blueprint
from sandbox.gce.ledger import Happening, Ledger
from sandbox.gce.links import self_link
from sandbox.gce.operations import Operation, Target, numeric_id, timestamp
from sandbox.gce.placement import Placement
from sandbox.machines import Machine, MachineFactory, MachineSpec


class Superseded(Exception):
    """A transition was given up because a stronger one began: a delete, a preemption."""


class Instance:
    """A VM that exists; ``resource`` is what the API shows."""

    def __init__(
        self,
        blueprint: Blueprint,
        address: str,
        machines: MachineFactory,
        ledger: Ledger,
        logins: Mapping[str, list[str]],
    ) -> None:
        self.project = blueprint.project
        self.zone = blueprint.zone
        self.name = blueprint.name
        path = f"projects/{self.project}/zones/{self.zone}/instances/{self.name}"
        self.target = Target(self.project, self.zone, path, numeric_id())
        self.placement: Placement = blueprint.placement
        self.address = address
        self.made_at = time.monotonic()
        self.metadata: dict[str, str] = {}
        self.preempted = False
        self.deletion: Operation | None = None
        self._ledger = ledger
        self._transition: asyncio.Task[None] | None = None
        self.resource = dict(blueprint.resource) | {
            "id": str(self.target.id),
            "creationTimestamp": timestamp(),
            "status": "PROVISIONING",
            "selfLink": self_link(path),
        }
        self._attach_network(address)
        self.set_labels(self.resource["labels"])
        self.set_metadata(self.resource["metadata"].get("items", []))
        self.resource["tags"] = self.resource["tags"] | {"fingerprint": fingerprint(self.resource["tags"])}
        accounts = self.resource.get("serviceAccounts", [])
        self.machine: Machine = machines.create(
            MachineSpec(
                name=self.name,
                project=self.project,
                zone=self.zone,
                machine_type=self.placement.machine_type.name,
                instance_id=self.target.id,
                address=address,
                gpu_type=self.placement.gpu_type,
                gpu_count=self.placement.gpu_count,
                metadata=self.metadata,
                service_account=accounts[0]["email"] if accounts else None,
                logins=logins,
            )
        )

    @property
    def status(self) -> str:
        """The status: PROVISIONING, STAGING, RUNNING, STOPPING or TERMINATED."""
        return str(self.resource["status"])

    @status.setter
    def status(self, status: str) -> None:
        self.resource["status"] = status
        if status == "RUNNING":
            self.resource["lastStartTimestamp"] = timestamp()
        elif status == "TERMINATED":
            self.resource["lastStopTimestamp"] = timestamp()

    @property
    def deleted_when_preempted(self) -> bool:
        """True if its owner chose that a preemption deletes it instead of stopping it."""
        return bool(self.resource["scheduling"].get("instanceTerminationAction") == "DELETE")

    @property
    def notice_seconds(self) -> float:
        """How long before the soft off the metadata announces a preemption: ``preemptionNoticeDuration``."""
        return float(self.resource["scheduling"].get("preemptionNoticeDuration", {}).get("seconds", 0))

    def record(self, what: Happening) -> None:
        """Write into the ledger what happened to this VM."""
        self._ledger.write(what, self.name, self.zone, self.target.id, self.placement.machine_type.name)

    def set_labels(self, labels: dict[str, str]) -> None:
        """Replace the labels and their fingerprint."""
        self.resource["labels"] = labels
        self.resource["labelFingerprint"] = fingerprint(labels)

    def set_metadata(self, items: list[dict[str, str]]) -> None:
        """Replace the metadata; the running machine sees the new ones at once."""
        self.resource["metadata"] = {"kind": "compute#metadata", "items": items, "fingerprint": fingerprint(items)}
        wanted = {item["key"]: item["value"] for item in items}
        for gone in self.metadata.keys() - wanted.keys():
            del self.metadata[gone]
        self.metadata.update(wanted)

    async def become(self, transition: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``transition`` to its end, instead of the one that may be under way.

        Raises:
            Superseded: another transition took over before the end.
        """
        await self.halt()
        task = self._transition = asyncio.create_task(transition(), name=f"{self.name}: {transition.__qualname__}")
        await asyncio.wait({task})
        if task.cancelled():
            raise Superseded
        task.result()

    async def halt(self) -> None:
        """Give up the transition that is under way."""
        if self._transition is not None and not self._transition.done():
            self._transition.cancel()
            await asyncio.wait({self._transition})

    def _attach_network(self, address: str) -> None:
        """Give the interface its address. The external address is the same, because loopback has no NAT."""
        interface = self.resource["networkInterfaces"][0] | {"networkIP": address}
        interface["fingerprint"] = fingerprint(interface)
        if access := interface.get("accessConfigs"):
            interface["accessConfigs"] = [access[0] | {"natIP": address}]
        self.resource["networkInterfaces"] = [interface]


def fingerprint(content: Any) -> str:
    """Return a hash that changes with ``content``; updates have to quote it."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    return base64.urlsafe_b64encode(digest[:8]).decode()
