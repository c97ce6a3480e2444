"""The VMs that exist, their addresses, and what keeps another one from being made."""

from __future__ import annotations

from collections import Counter
from itertools import takewhile

from sandbox.gce.catalog import ZONES
from sandbox.gce.errors import OperationError, not_found, quota_exceeded
from sandbox.gce.faults import Faults
from sandbox.gce.instance import Instance
from sandbox.gce.ledger import Happening
from sandbox.gce.quotas import Quota, charges, exceeded


class Inventory:
    """All VMs by project, zone and name."""

    def __init__(self, faults: Faults, network: str) -> None:
        self._faults = faults
        self._addresses = Addresses(network)
        self._instances: dict[tuple[str, str, str], Instance] = {}

    def all(self) -> list[Instance]:
        """Return every VM that exists, the oldest first."""
        return list(self._instances.values())

    def has(self, project: str, zone: str, name: str) -> bool:
        """True if the name is taken in this zone."""
        return (project, zone, name) in self._instances

    def get(self, project: str, zone: str, name: str) -> Instance:
        """Return a VM by its name.

        Raises:
            ApiError: 404.
        """
        instance = self._instances.get((project, zone, name))
        if instance is None:
            raise not_found(f"projects/{project}/zones/{zone}/instances/{name}")
        return instance

    def take_address(self, zone: str) -> str:
        """Reserve an address for a new VM.

        Raises:
            RuntimeError: the zone has no free address.
        """
        return self._addresses.take(zone)

    def give_back(self, address: str) -> None:
        """Let the address of a VM that was not made be used again."""
        self._addresses.give_back(address)

    def add(self, instance: Instance) -> None:
        """Add a new VM."""
        self._instances[instance.project, instance.zone, instance.name] = instance

    def remove(self, instance: Instance, why: Happening) -> None:
        """Remove a VM, and record why; its name and its address are free again."""
        del self._instances[instance.project, instance.zone, instance.name]
        self._addresses.give_back(instance.address)
        instance.record(why)

    def charged(self, project: str) -> Counter[Quota]:
        """Return how much of each quota the project's VMs take."""
        mine = (vm for vm in self.all() if _uses_quota(vm, project))
        return sum((charges(vm.placement, vm.zone) for vm in mine), Counter[Quota]())

    def shortage(self, instance: Instance, *, at_once: bool) -> OperationError | None:
        """Return what keeps this VM from being made now: a stockout, or a quota that older VMs have used up."""
        zone_path = f"projects/{instance.project}/zones/{instance.zone}"
        placement = instance.placement
        limits = self._faults.limits(instance.project, at_once=at_once)
        before = takewhile(lambda other: other is not instance, self.all())
        used = (charges(vm.placement, vm.zone) for vm in before if _uses_quota(vm, instance.project))
        if quota := exceeded(charges(placement, instance.zone), used, limits):
            region, metric = quota
            return quota_exceeded(metric, limits[quota], region=region)
        return self._faults.shortage(zone_path, placement.machine_type.name, placement.accelerators, at_once=at_once)


class Addresses:
    """The addresses of VMs, ``<network>.<zone>.<host>``. Each VM takes the lowest free one, so they are used again."""

    def __init__(self, network: str) -> None:
        """Start with a ``network`` of two octets: 127.<sandbox> for light machines, which are on loopback."""
        self._network = network
        self._taken: set[str] = set()

    def take(self, zone: str) -> str:
        """Reserve the lowest free address in ``zone``.

        Raises:
            RuntimeError: all 253 are taken.
        """
        subnet = f"{self._network}.{ZONES.index(zone) + 1}"
        for host in range(2, 255):
            address = f"{subnet}.{host}"
            if address not in self._taken:
                self._taken.add(address)
                return address
        raise RuntimeError(f"no free address in {subnet}.0/24: delete VMs in {zone}")

    def give_back(self, address: str) -> None:
        """Let ``address`` be used again."""
        self._taken.discard(address)


def _uses_quota(vm: Instance, project: str) -> bool:
    return vm.project == project and vm.status != "TERMINATED"
