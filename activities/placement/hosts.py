"""Hosts: what placement knows of each Node. Pure.

Of thousands of Nodes these few fields are kept in memory, so everything that a template cannot change is decided when a
Node is read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from sys import intern
from typing import Any

from activities.placement.demand import ALL_DEVICES, Amounts, amounts_of
from api.names import LABEL_JOB, vm_key_of
from api.node_labels import ZONE
from api.object_conditions import is_true
from api.projections import node_marks, node_view

Json = dict[str, Any]

_LEAVES = "about to go"
_GPU_PRESENT, _GPU_COUNT = "nvidia.com/gpu.present", "nvidia.com/gpu.count"  # set by NVIDIA's feature discovery


@dataclass(frozen=True, slots=True)
class Host:
    """A Node as placement sees it.

    Attributes:
        name: its name.
        labels: its labels.
        taints: (key, value, effect) of those that keep pods away.
        allocatable: what its pods may take in all.
        gpus: how many GPUs it has, whoever uses them.
        ready: True if its kubelet says that it works.
        unusable: why no pod may start there that it was not bought for; empty if nothing forbids it.
    """

    name: str
    labels: Mapping[str, str]
    taints: tuple[tuple[str, str, str], ...]
    allocatable: Amounts
    gpus: Decimal
    ready: bool
    unusable: str

    @property
    def leaves(self) -> bool:
        """True if its machine is about to go."""
        return self.unusable == _LEAVES

    @property
    def zone(self) -> str | None:
        """Give its zone; None if it has no such label."""
        return self.labels.get(ZONE)

    def devices(self, asked: frozenset[str]) -> set[str]:
        """List the CDI GPUs that ``asked`` means here; ``all`` stands for each device and for itself."""
        every = map(str, range(int(self.gpus))) if ALL_DEVICES in asked else ()
        return {*asked, *every}

    def admits(self, pod_spec: Json) -> str:
        """Say what of a pod's spec keeps it off this host; empty if nothing does."""
        if self.taints and not self._tolerated(pod_spec.get("tolerations") or []):
            return "with a taint that the template does not tolerate"
        if not self._selected(pod_spec):
            return "outside nodeSelector or nodeAffinity"
        return ""

    def _tolerated(self, tolerations: list[Json]) -> bool:
        return all(any(_tolerates(toleration, *taint) for toleration in tolerations) for taint in self.taints)

    def _selected(self, spec: Json) -> bool:
        if any(self.labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
            return False
        affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
        return required is None or any(self._matches(term) for term in required.get("nodeSelectorTerms") or [])

    def _matches(self, term: Json) -> bool:
        """True if all conditions of a term are met; a term without any matches nothing."""
        expressions, on_fields = term.get("matchExpressions") or [], term.get("matchFields") or []
        if not expressions and not on_fields:
            return False
        fields = {"metadata.name": self.name}
        return all(matches(each, self.labels) for each in expressions) and all(
            matches(each, fields) for each in on_fields
        )


def host_of(node: Json) -> Host:
    """Read a Node."""
    metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    labels = metadata.get("labels") or {}
    return Host(
        name=metadata["name"],
        labels={intern(key): intern(value) for key, value in labels.items()},
        taints=tuple(_hard(spec.get("taints") or [])),
        allocatable=amounts_of(status.get("allocatable")),
        gpus=_total_gpus(node, labels),
        ready=is_true(node, "Ready"),
        unusable=_why_unusable(node),
    )


def matches(expression: Json, values: Mapping[str, str]) -> bool:
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


def _why_unusable(node: Json) -> str:
    view = node_view(node)
    if node["metadata"].get("deletionTimestamp") or node_marks(node):
        return _LEAVES
    if not view.ready:
        return "not Ready"
    if _buyer_of(node) is not None:
        return "bought for one replica alone"
    if not view.schedulable:
        return "cordoned"
    return f"unfit ({view.unfit[0]})" if view.unfit else ""


def _buyer_of(node: Json) -> str | None:
    """Find the job whose VM this is. Its replica learns of it from the VM's own workflow; nobody else may take it."""
    key = vm_key_of(node["metadata"]["name"])
    return (node["metadata"].get("labels") or {}).get(LABEL_JOB) or (key.partition("-")[0] if key else None)


def _total_gpus(node: Json, labels: Mapping[str, str]) -> Decimal:
    """Count the GPUs that the device plugin offers, else those of feature discovery: CDI works without a plugin."""
    offered = Decimal(node_view(node).gpus)
    if offered or labels.get(_GPU_PRESENT) != "true":
        return offered
    return Decimal(labels[_GPU_COUNT]) if _is_integer(labels.get(_GPU_COUNT, "")) else Decimal(1)


def _hard(taints: Iterable[Json]) -> Iterable[tuple[str, str, str]]:
    for taint in taints:
        if taint["effect"] in {"NoSchedule", "NoExecute"}:
            yield taint["key"], taint.get("value", ""), taint["effect"]


def _tolerates(toleration: Json, key: str, value: str, effect: str) -> bool:
    if toleration.get("effect") not in {None, "", effect}:
        return False
    if toleration.get("key") not in {None, "", key}:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == value


def _is_integer(text: str) -> bool:
    return text.lstrip("-").isdigit()
