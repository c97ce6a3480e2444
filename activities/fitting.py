"""Where would this pod fit? The scheduler's filters over plain JSON, as far as they decide on buying a VM. Pure.

The scheduler is the arbiter in the end: a node found here is tried, not promised. Left out on purpose: other pods'
affinities, volumes' zones, topology spread, host ports, preemption by priority.

CDI devices (``container.devices.cdi.k8s.io/<container>: nvidia.com/gpu=0``) are what the scheduler does not see at
all: they are counted here, against each other and against the GPUs that other pods request.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from api.names import GPU_RESOURCE, LABEL_JOB, vm_key_of
from api.node_labels import ZONE
from api.projections import node_marks, node_view

Json = dict[str, Any]
Amounts = dict[str, Decimal]

_CDI = ("container.devices.cdi.k8s.io/", "cdi.k8s.io/")
_ALL_DEVICES = "all"
_GPU_PRESENT, _GPU_COUNT = "nvidia.com/gpu.present", "nvidia.com/gpu.count"  # of NVIDIA's feature discovery

_SUFFIXES = {"n": -3, "u": -2, "m": -1, "": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_BINARY = {f"{letter}i": power for power, letter in enumerate("KMGTPE", 1)}


@dataclass(frozen=True)
class Demand:
    """What a pod takes of a node: resources by name, and CDI GPUs by device (``0``, or ``all``)."""

    amounts: Amounts
    devices: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Fit:
    """Names of nodes with room, best first, and how many of the others failed for which reason."""

    nodes: list[str]
    passed_over: Mapping[str, int] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """One line for people; empty where every node fits."""
        passed_over = ", ".join(f"{count} {why}" for why, count in sorted(self.passed_over.items()))
        return f"nodes without room: {passed_over}" if passed_over else ""


def find_fit(nodes: list[Json], pods: Iterable[Json], pod_template: Json, avoid: Iterable[str] = ()) -> Fit:
    """Nodes on which a pod of ``pod_template`` ({metadata, spec}) would run now.

    ``pods`` are all that were bound to nodes; those that ended take nothing. Best is a zone without any node of
    ``avoid``, because preemptions in one zone come together; then the node that is left with the fewest free GPUs.
    """
    shunned = set(avoid)
    taken: dict[str, list[Demand]] = {node["metadata"]["name"]: [] for node in nodes}
    for pod in pods:
        where = pod["spec"].get("nodeName")
        if where in taken and (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}:
            taken[where].append(demand_of(pod))
    wanted = demand_of(pod_template)
    crowded = {_zone(node) for node in nodes if node["metadata"]["name"] in shunned} - {None}

    ranked: list[tuple[bool, Decimal, str]] = []
    passed_over: Counter[str] = Counter()
    for node in nodes:
        name = node["metadata"]["name"]
        why = _why_not(node, pod_template, wanted, taken[name], shunned)
        if why:
            passed_over[why] += 1
        else:
            ranked.append((_zone(node) in crowded, _free_gpus(node, taken[name]), name))
    return Fit([name for _, _, name in sorted(ranked)], passed_over)


def find_takers(
    node: Json, others: list[Json], residents: Iterable[Json], pod_template: Json
) -> tuple[list[Json], str]:
    """Find which of ``others`` keep a pod of ``pod_template`` off a node, and what they leave too little of.

    ``residents`` are pods that belong there. Nobody is to blame if the pod would not fit without the others either.
    """
    wanted, there = demand_of(pod_template), [demand_of(pod) for pod in residents]
    lacks = _what_lacks(node, wanted, [*there, *map(demand_of, others)])
    if lacks is None or _what_lacks(node, wanted, there) is not None:
        return [], ""

    def suffices(leaving: Json) -> bool:
        staying = [demand_of(pod) for pod in others if pod is not leaving]
        return _what_lacks(node, wanted, [*there, *staying]) is None

    # If it is not enough that any one of them leaves, all are named.
    return [pod for pod in others if suffices(pod)] or others, lacks


def _why_not(node: Json, pod: Json, wanted: Demand, taken: list[Demand], shunned: set[str]) -> str | None:
    """The first of the filters that this node fails."""
    view, spec = node_view(node), pod.get("spec") or {}
    if view.name in shunned:
        return "with a replica of this job, or that failed it"
    if node["metadata"].get("deletionTimestamp") or node_marks(node):
        return "about to go"
    if not view.ready:
        return "not Ready"
    if _buyer_of(node) is not None:
        return "bought for one replica alone"
    if not view.schedulable:
        return "cordoned"
    if view.unfit:
        return f"unfit ({view.unfit[0]})"
    if not _tolerated(node, spec.get("tolerations") or []):
        return "with a taint that the template does not tolerate"
    if not _selected(node, spec):
        return "outside nodeSelector or nodeAffinity"
    return _what_lacks(node, wanted, taken)


def _buyer_of(node: Json) -> str | None:
    """The job whose VM this is. Its replica hears of it from the VM's own workflow, nobody else may take it."""
    key = vm_key_of(node["metadata"]["name"])
    return (node["metadata"].get("labels") or {}).get(LABEL_JOB) or (key.partition("-")[0] if key else None)


def _tolerated(node: Json, tolerations: list[Json]) -> bool:
    taints = (node.get("spec") or {}).get("taints") or []
    hard = [taint for taint in taints if taint["effect"] in {"NoSchedule", "NoExecute"}]
    return all(any(_tolerates(toleration, taint) for toleration in tolerations) for taint in hard)


def _tolerates(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") not in {None, "", taint["effect"]}:
        return False
    if toleration.get("key") not in {None, "", taint["key"]}:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


def _selected(node: Json, spec: Json) -> bool:
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(_matches(term, node) for term in required.get("nodeSelectorTerms") or [])


def _matches(term: Json, node: Json) -> bool:
    """A term's conditions are all to be met; a term without any matches nothing."""
    labels = node["metadata"].get("labels") or {}
    fields = {"metadata.name": node["metadata"]["name"]}
    expressions, on_fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not on_fields:
        return False
    return all(holds(expression, labels) for expression in expressions) and all(
        holds(expression, fields) for expression in on_fields
    )


def holds(expression: Json, values: Mapping[str, str]) -> bool:
    """True if these values meet a match expression of a node selector term or a label selector."""
    actual, given = values.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return actual in given
        case "NotIn":
            return actual not in given
        case "Exists":
            return actual is not None
        case "DoesNotExist":
            return actual is None
        case "Gt" | "Lt" if actual is not None and _is_integer(actual) and given and _is_integer(given[0]):
            return int(actual) > int(given[0]) if expression["operator"] == "Gt" else int(actual) < int(given[0])
    return False


def _what_lacks(node: Json, wanted: Demand, taken: list[Demand]) -> str | None:
    """The first resource of which too little is free; GPUs first, as they are what one would buy."""
    allocatable = _amounts((node.get("status") or {}).get("allocatable"))
    if wanted.devices:
        used = set().union(*(demand.devices for demand in taken))
        asks_all = _ALL_DEVICES in wanted.devices
        if _free_gpus(node, taken) < (total_gpus(node) or 1 if asks_all else len(wanted.devices)):
            return "with too few free GPUs"
        if wanted.devices & used:
            return "with a pod on the same CDI device"
    elif wanted.amounts.get(GPU_RESOURCE) and _free_gpus(node, taken) < wanted.amounts[GPU_RESOURCE]:
        return "with too few free GPUs"
    if len(taken) >= allocatable.get("pods", Decimal("Infinity")):
        return "full of pods"
    for resource, amount in wanted.amounts.items():
        free = allocatable.get(resource, Decimal(0)) - sum(demand.amounts.get(resource, 0) for demand in taken)
        if amount > free:
            return f"with too little {resource}"
    return None


def _free_gpus(node: Json, taken: list[Demand]) -> Decimal:
    used = sum((demand.amounts.get(GPU_RESOURCE, Decimal(0)) for demand in taken), Decimal(0))
    devices = set().union(*(demand.devices for demand in taken))
    return Decimal(0) if _ALL_DEVICES in devices else total_gpus(node) - used - len(devices)


def total_gpus(node: Json) -> Decimal:
    """What the device plugin offers, else what feature discovery found: CDI works without a device plugin."""
    labels = node["metadata"].get("labels") or {}
    offered = Decimal(node_view(node).gpus)
    if offered or labels.get(_GPU_PRESENT) != "true":
        return offered
    return Decimal(labels[_GPU_COUNT]) if _is_integer(labels.get(_GPU_COUNT, "")) else Decimal(1)


def devices_of(node: Json, asked: frozenset[str]) -> set[str]:
    """The CDI GPUs of a node that ``asked`` means, by device; ``all`` is each of them beside itself."""
    every = map(str, range(int(total_gpus(node)))) if _ALL_DEVICES in asked else ()
    return {*asked, *every}


def demand_of(pod: Json) -> Demand:
    """What a pod, or a pod template, takes: as the scheduler counts it, init containers, sidecars and overhead too."""
    spec = pod.get("spec") or {}
    running: Amounts = {}
    for container in spec.get("containers") or []:
        running = _sum(running, _requests(container))
    sidecars: Amounts = {}
    starting: Amounts = {}
    for container in spec.get("initContainers") or []:  # one after the other; sidecars stay
        if container.get("restartPolicy") == "Always":
            sidecars = _sum(sidecars, _requests(container))
            starting = _maximum(starting, sidecars)
        else:
            starting = _maximum(starting, _sum(sidecars, _requests(container)))
    total = _sum(_maximum(starting, _sum(running, sidecars)), _amounts(spec.get("overhead")))
    total |= _requests(spec)  # for the whole pod (Kubernetes 1.34), in place of the sum
    return Demand(total, _cdi_devices(pod))


def _requests(holder: Json) -> Amounts:
    """A limit without a request is a request."""
    resources = holder.get("resources") or {}
    return _amounts(resources.get("limits")) | _amounts(resources.get("requests"))


def _cdi_devices(pod: Json) -> frozenset[str]:
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    asked = [value for key, value in annotations.items() if key.startswith(_CDI)]
    names = [device.strip().partition("=") for value in asked for device in value.split(",")]
    return frozenset(device for kind, _, device in names if kind == GPU_RESOURCE and device)


def _zone(node: Json) -> str | None:
    zone: str | None = (node["metadata"].get("labels") or {}).get(ZONE)
    return zone


def _sum(one: Amounts, other: Amounts) -> Amounts:
    return {name: one.get(name, Decimal(0)) + other.get(name, Decimal(0)) for name in one.keys() | other.keys()}


def _maximum(one: Amounts, other: Amounts) -> Amounts:
    return {name: max(one.get(name, Decimal(0)), other.get(name, Decimal(0))) for name in one.keys() | other.keys()}


def _amounts(quantities: Mapping[str, Any] | None) -> Amounts:
    return {name: parse_quantity(value) for name, value in (quantities or {}).items()}


def parse_quantity(text: str | int | float) -> Decimal:
    """A Kubernetes quantity (``500m``, ``2Gi``, ``1e3``) as a number.

    Raises:
        ValueError: it is none.
    """
    quantity = str(text)
    number = quantity.rstrip("numkKMGTPEi")
    suffix = quantity[len(number) :]
    try:
        if suffix in _BINARY:
            return Decimal(number) * Decimal(1024) ** _BINARY[suffix]
        return Decimal(number) * Decimal(1000) ** _SUFFIXES[suffix]
    except (ArithmeticError, KeyError):
        raise ValueError(f"{quantity!r} is no quantity: write for example 500m or 2Gi") from None


def _is_integer(text: str) -> bool:
    return text.lstrip("-").isdigit()


def format_quantity(number: Decimal) -> str:
    """Write a number as people read it: without an exponent, and without zeros that say nothing."""
    return f"{number.normalize():f}"
