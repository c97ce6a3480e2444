"""What a pod takes of a node, and Kubernetes' quantities. Pure.

The scheduler does not see CDI devices (``container.devices.cdi.k8s.io/<container>: nvidia.com/gpu=0``) at all. They are
counted here, against each other and against the GPUs that other pods request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from api.names import GPU_RESOURCE

Json = dict[str, Any]
Amounts = Mapping[str, Decimal]

ALL_DEVICES = "all"
_CDI = ("container.devices.cdi.k8s.io/", "cdi.k8s.io/")
_SUFFIXES = {"n": -3, "u": -2, "m": -1, "": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_BINARY = {f"{letter}i": power for power, letter in enumerate("KMGTPE", 1)}
_DIFFERENT = 10_000
"""Quantities that are remembered, because many pods have the same."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a pod takes of a node: resources by name, and CDI GPUs by device (``0``, or ``all``)."""

    amounts: Amounts
    devices: frozenset[str] = frozenset()


def demand_of(pod: Json) -> Demand:
    """Sum what a pod or pod template takes, as the scheduler does, with init containers, sidecars and overhead."""
    spec = pod.get("spec") or {}
    running: dict[str, Decimal] = {}
    for container in spec.get("containers") or []:
        running = _sum(running, _requests(container))
    sidecars: dict[str, Decimal] = {}
    starting: dict[str, Decimal] = {}
    for container in spec.get("initContainers") or []:  # they run one after the other; sidecars stay
        if container.get("restartPolicy") == "Always":
            sidecars = _sum(sidecars, _requests(container))
            starting = _maximum(starting, sidecars)
        else:
            starting = _maximum(starting, _sum(sidecars, _requests(container)))
    total = _sum(_maximum(starting, _sum(running, sidecars)), amounts_of(spec.get("overhead")))
    total |= _requests(spec)  # those of the whole pod (Kubernetes 1.34) replace the sum
    return Demand(total, _cdi_devices(pod))


def _requests(holder: Json) -> dict[str, Decimal]:
    """List the requests; a limit without a request counts as one."""
    resources = holder.get("resources") or {}
    return amounts_of(resources.get("limits")) | amounts_of(resources.get("requests"))


def _cdi_devices(pod: Json) -> frozenset[str]:
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    asked = [value for key, value in annotations.items() if key.startswith(_CDI)]
    names = [device.strip().partition("=") for value in asked for device in value.split(",")]
    return frozenset(device for kind, _, device in names if kind == GPU_RESOURCE and device)


def _sum(one: Amounts, other: Amounts) -> dict[str, Decimal]:
    return {name: one.get(name, Decimal(0)) + other.get(name, Decimal(0)) for name in one.keys() | other.keys()}


def _maximum(one: Amounts, other: Amounts) -> dict[str, Decimal]:
    return {name: max(one.get(name, Decimal(0)), other.get(name, Decimal(0))) for name in one.keys() | other.keys()}


def amounts_of(quantities: Mapping[str, Any] | None) -> dict[str, Decimal]:
    """Convert the quantities of a resource list."""
    return {name: parse_quantity(value) for name, value in (quantities or {}).items()}


def parse_quantity(text: str | int | float) -> Decimal:
    """Convert a Kubernetes quantity (``500m``, ``2Gi``, ``1e3``) to a number.

    Raises:
        ValueError: it is no quantity.
    """
    return _parsed(str(text))


@lru_cache(_DIFFERENT)
def _parsed(quantity: str) -> Decimal:
    number = quantity.rstrip("numkKMGTPEi")
    suffix = quantity[len(number) :]
    try:
        if suffix in _BINARY:
            return Decimal(number) * Decimal(1024) ** _BINARY[suffix]
        return Decimal(number) * Decimal(1000) ** _SUFFIXES[suffix]
    except (ArithmeticError, KeyError):
        raise ValueError(f"{quantity!r} is no quantity: write for example 500m or 2Gi") from None


def format_quantity(number: Decimal) -> str:
    """Write a number as people read it: without an exponent and without trailing zeros."""
    return f"{number.normalize():f}"
