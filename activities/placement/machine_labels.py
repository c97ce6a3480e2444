"""The labels of a bought Node, compared with a template's node selectors. Pure, and honest about what nobody knows yet.

Some labels are set by other programs once the Node exists: NVIDIA's, those of node feature discovery, and those of a
CSI driver's topology. An expression on such a label is neither met nor unmet: the answer is None.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from activities.placement.hosts import matches
from api import node_labels as well_known
from api.market import Candidate
from api.names import LABEL_JOB, shown
from api.spot_instance_vm import NodeLabel

Json = dict[str, Any]

NAME = "outlast-…"
"""Stands for the Node's name, which is made when the VM is bought and which no template can know."""
_SET_BY_OTHERS = re.compile(
    r"^(nvidia[.]com|feature[.]node[.]kubernetes[.]io|([^/]*[.])?topology[.][^/]*|[^/]*[.]csi[.][^/]*)/"
)
_REGION_TOO = ("failure-domain.beta.kubernetes.io/region",)
_ZONE_TOO = ("failure-domain.beta.kubernetes.io/zone", "topology.gke.io/zone", "topology.ebs.csi.aws.com/zone")
"""Labels by which disk drivers name the zone."""
_TYPE_TOO = ("beta.kubernetes.io/instance-type",)


def labels_of(candidate: Candidate, declared: Iterable[NodeLabel], *, arm: bool = False) -> dict[str, str]:
    """List all labels that are known before the Node is bought: the worker's and the kubelet's."""
    ours = well_known.node_labels(candidate, declared)
    architecture = "arm64" if arm else "amd64"
    return {
        **ours,
        **dict.fromkeys(_ZONE_TOO, candidate.zone),
        **dict.fromkeys(_REGION_TOO, candidate.region),
        **dict.fromkeys(_TYPE_TOO, candidate.machine_type),
        well_known.HOSTNAME: NAME,
        "metadata.name": NAME,
        LABEL_JOB: NAME,
        "kubernetes.io/os": "linux",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "beta.kubernetes.io/arch": architecture,
    }


def unmet(pod: Json, labels: Mapping[str, str]) -> list[str]:
    """List what a pod's nodeSelector and required node affinity demand and such a Node will never have."""
    selector = (pod.get("nodeSelector") or {}).items()
    asked = [{"key": key, "operator": "In", "values": [value]} for key, value in selector]
    said = [_told(each, labels) for each in asked if _met(each, labels) is False]
    affinity = (pod.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return said + (unmet_terms(required, labels) if required else [])


def unmet_terms(required: Json, labels: Mapping[str, str]) -> list[str]:
    """List what a NodeSelector demands and never gets; empty if one of its terms (they are alternatives) may be met."""
    terms = required.get("nodeSelectorTerms") or []
    failing = [_failing(term, labels) for term in terms]
    if not all(failing):
        return []
    return failing[0] if failing else ["no node at all: nodeSelectorTerms is empty"]


def unsure(pod: Json, labels: Mapping[str, str]) -> list[str]:
    """List the labels of a nodeSelector that other programs have to set before the pod can run there."""
    return [key for key in pod.get("nodeSelector") or {} if key not in labels and _SET_BY_OTHERS.match(key)]


def _failing(term: Json, labels: Mapping[str, str]) -> list[str]:
    """List what is never met in a term; a term without expressions matches nothing."""
    expressions = [*(term.get("matchExpressions") or []), *(term.get("matchFields") or [])]
    if not expressions:
        return ["no node at all: a term is empty"]
    return [_told(each, labels) for each in expressions if _met(each, labels) is False]


def _met(expression: Json, labels: Mapping[str, str]) -> bool | None:
    if expression["key"] not in labels and _SET_BY_OTHERS.match(expression["key"]):
        return None
    return matches(expression, labels)


def _told(expression: Json, labels: Mapping[str, str]) -> str:
    """Say in one phrase what is demanded, and what the Node has instead."""
    key, values = expression["key"], expression.get("values") or []
    asked: dict[str, Callable[[], str]] = {
        "In": lambda: f"{key}={' or '.join(values)}",
        "NotIn": lambda: f"{key} other than {' and '.join(values)}",
        "Exists": lambda: f"the label {key}",
        "DoesNotExist": lambda: f"no label {key}",
    }
    said = asked.get(expression["operator"], lambda: f"{key} {expression['operator']} {' '.join(values)}")()
    has = f"it has {labels[key]}" if key in labels else "it has no such label"
    return f"{shown(said, 200)[1:-1]} ({has})"
