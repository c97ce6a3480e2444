"""A cloud's virtual machines behind a small interface with typed errors, implemented by ``gcp.py``.

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

CALL_SECONDS = 15.0  # for one HTTP call, so that two of them fit into the shortest activity


@dataclass(frozen=True)
class Operation:
    """The state of a long-running operation; ``error`` is why it failed, once it is done."""

    done: bool
    error: CloudError | None = None


@dataclass(frozen=True)
class MachineType:
    """A machine type of a zone; ``gpus`` counts its built-in GPUs by accelerator type."""

    name: str
    gpus: dict[str, int]
    cpus: int
    memory_mb: int
    arm: bool = False


@dataclass(frozen=True)
class PlacementView:
    """A placement policy of ours, and a zone of its region: that of the instance for which it was made."""

    name: str
    zone: str
    creation_time: datetime


class Compute(Protocol):
    """One cloud, reached with one set of credentials."""

    async def insert(self, project: str, zone: str, body: dict[str, Any], request_id: str) -> str:
        """Ask for the instance ``body`` (see ``instance.py``) and return the operation's name.

        The same ``request_id`` gives the same operation again. Raises Conflict if the name is taken.
        """
        ...

    async def operation(self, project: str, zone: str, name: str) -> Operation | None:
        """Read an operation; None if the cloud does not know it, or no longer does."""
        ...

    async def get(self, project: str, zone: str, name: str) -> VmView | None:
        """Read an instance; None if it does not exist."""
        ...

    async def labelled(self, project: str, label: str, value: str) -> list[VmView]:
        """List a project's instances with this label in all zones. A new one may be missing for some seconds."""
        ...

    async def delete(self, project: str, zone: str, name: str) -> None:
        """Ask for the deletion of an instance; one that does not exist is success."""
        ...

    async def ensure_placement(self, project: str, zone: str, name: str, owner: str) -> bool:
        """Make a policy by which instances in the zone's region are placed near to each other, unless it exists.

        True once instances may name it. Raises Conflict if one of that name belongs to another ``owner``.
        """
        ...

    async def delete_placement(self, project: str, zone: str, name: str, owner: str) -> None:
        """Ask for the deletion of such a policy. One that does not exist, or is still in use, is success."""
        ...

    async def placements(self, project: str, owner: str) -> list[PlacementView]:
        """List the policies of an ``owner`` in all regions."""
        ...

    async def spot_price(self, project: str, candidate: Candidate) -> float | None:
        """Read a spot VM's list price in the candidate's region, in USD per hour; None if the cloud states none."""
        ...

    async def preempted(self, project: str, zone: str, since: datetime) -> list[PreemptedVm]:
        """List a zone's instances that the cloud has preempted since a moment, oldest first."""
        ...

    async def host_keys(self, project: str, zone: str, name: str) -> list[str]:
        """Read the public SSH host keys (``ssh-ed25519 AAAA…``) that the guest has published so far."""
        ...

    async def login(self, project: str, public_key: str) -> str:
        """Allow an SSH key to log in by OS Login, and return its user name.

        The account is that of the credentials. Repeating the call with the same key changes nothing.
        """
        ...

    async def missing_permissions(self, project: str, permissions: list[str]) -> list[str]:
        """List those of ``permissions`` that these credentials lack on the project."""
        ...

    async def quotas(self, project: str, region: str | None) -> dict[str, tuple[float, float]] | None:
        """Read limit and usage of each quota of a region, or of the project; None if the credentials may not."""
        ...

    async def machine_type(self, project: str, zone: str, name: str) -> MachineType | None:
        """Read a machine type; None if the zone has none of that name."""
        ...

    async def exists(self, kind: Literal["zone", "accelerator", "image"], project: str, zone: str, name: str) -> bool:
        """True if such a zone, accelerator type or image exists. An image is named as ``instance.py`` does it."""
        ...


class Cloud(Protocol):
    """Opens a cloud with the credentials that an object names."""

    async def open(self, credentials: SecretReference | None, namespace: str) -> Compute:
        """Open the cloud.

        Args:
            credentials: the Secret with the key; None stands for the worker's own identity.
            namespace: the namespace of a reference that names none.

        Raises:
            Missing: the Secret does not exist. The message names the remedy.
            Invalid: the Secret contains no key. The message names the remedy.
        """
        ...
