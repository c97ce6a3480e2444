"""A cloud's virtual machines behind a small interface with typed errors; ``gcp.py`` is the one behind it.

Every method of :class:`Compute` ends within :data:`CALL_SECONDS` and raises a
:class:`activities.cloud_errors.CloudError`, never an error of a client library.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from activities.cloud_errors import CloudError
from api.common import SecretReference
from api.market import Candidate, PreemptedVm
from api.views import VmView

CALL_SECONDS = 15.0  # of one HTTP call, so that two of them fit into the shortest activity


@dataclass(frozen=True)
class Operation:
    """Where a long-running operation stands; ``error`` is why it failed, once it is done."""

    done: bool
    error: CloudError | None = None


@dataclass(frozen=True)
class MachineType:
    """A machine type of a zone; ``gpus`` counts those that it has built in, by accelerator type."""

    name: str
    gpus: dict[str, int]
    cpus: int
    memory_mb: int
    arm: bool = False


class Compute(Protocol):
    """One cloud, reached with one set of credentials."""

    async def insert(self, project: str, zone: str, body: dict[str, Any], request_id: str) -> str:
        """Ask for the instance ``body`` (see ``instance.py``) and return the operation's name.

        The same ``request_id`` again gives the same operation again. Raises Conflict where the name is taken.
        """
        ...

    async def operation(self, project: str, zone: str, name: str) -> Operation | None:
        """Read an operation, None where the cloud does not know it (any more)."""
        ...

    async def get(self, project: str, zone: str, name: str) -> VmView | None:
        """Read an instance, None where it is not there."""
        ...

    async def labelled(self, project: str, label: str, value: str) -> list[VmView]:
        """All instances of a project with this label, in all zones. A new one may be missing for some seconds."""
        ...

    async def delete(self, project: str, zone: str, name: str) -> None:
        """Ask for the deletion of an instance; one that is not there is success."""
        ...

    async def spot_price(self, project: str, candidate: Candidate) -> float | None:
        """List price of a spot VM in the candidate's region, in USD per hour; None where the cloud tells none."""
        ...

    async def preempted(self, project: str, zone: str, since: datetime) -> list[PreemptedVm]:
        """Instances of a zone that the cloud took back since a moment, oldest first."""
        ...

    async def host_keys(self, project: str, zone: str, name: str) -> list[str]:
        """Public SSH host keys (``ssh-ed25519 AAAA…``) that the guest published; empty while it has not."""
        ...

    async def login(self, project: str, public_key: str) -> str:
        """Let an SSH key log in by OS Login; gives the user name that belongs to it.

        The account is the credentials' own. The same key again changes nothing.
        """
        ...

    async def missing_permissions(self, project: str, permissions: list[str]) -> list[str]:
        """Those of ``permissions`` that these credentials lack on the project."""
        ...

    async def machine_type(self, project: str, zone: str, name: str) -> MachineType | None:
        """Read a machine type, None where the zone has none of that name."""
        ...

    async def exists(self, kind: Literal["zone", "accelerator", "image"], project: str, zone: str, name: str) -> bool:
        """Is there such a zone, accelerator type in the zone, or image? An image is named as ``instance.py`` does."""
        ...


class Cloud(Protocol):
    """Opens a cloud with the credentials that an object names."""

    async def open(self, credentials: SecretReference | None, namespace: str) -> Compute:
        """``namespace`` is where a reference without one points; None is the worker's own identity.

        Raises Missing or Invalid, with the remedy, where the Secret is not there or holds no key.
        """
        ...
