"""Projections: plain Kubernetes JSON → the views of :mod:`api.views`. Pure; the activities and the bridge use them.

The input is an object as the API server sends it, a dict; no field but those that the API guarantees is assumed.
"""

from typing import Any

from api.names import GPU_RESOURCE, TAINT_PREEMPTED
from api.views import NodeView

Json = dict[str, Any]

# Taints by which handlers that people already run announce the end of a node: exact keys and prefixes.
_MARK_TAINTS = {
    TAINT_PREEMPTED,  # our node agent
    "cloud.google.com/impending-node-termination",  # GKE
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",  # Karpenter before v1
    "ToBeDeletedByClusterAutoscaler",
    "node.cloudprovider.kubernetes.io/shutdown",  # a cloud controller: the VM is stopped
    "node.kubernetes.io/out-of-service",
}
_MARK_TAINT_PREFIXES = ("aws-node-termination-handler/",)

# Conditions that AKS's node problem detector sets from Azure's Scheduled Events. A freeze is no end.
_MARK_CONDITIONS = {
    "PreemptScheduled",
    "TerminateScheduled",
    "RedeployScheduled",
    "RebootScheduled",
    "VMEventScheduled",
}

# What the kubelet says on its Ready condition once the operating system goes down (graceful node shutdown).
_SHUTTING_DOWN = "node is shutting down"
MARK_SHUTDOWN = "KubeletShuttingDown"


def node_view(node: Json) -> NodeView:
    """A Node."""
    metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    ready: Json = next((c for c in status.get("conditions") or [] if c["type"] == "Ready"), {})
    return NodeView(
        name=metadata["name"],
        uid=metadata.get("uid"),
        ready=ready.get("status") == "True",
        schedulable=not spec.get("unschedulable", False),
        gpus=int((status.get("allocatable") or {}).get(GPU_RESOURCE, 0)),
        marks=node_marks(node),
        provider_id=spec.get("providerID"),
    )


def node_marks(node: Json) -> list[str]:
    """Keys of the taints and types of the conditions by which anybody announces this node's end, sorted."""
    taints = [taint["key"] for taint in (node.get("spec") or {}).get("taints") or []]
    conditions = (node.get("status") or {}).get("conditions") or []
    marks = {key for key in taints if key in _MARK_TAINTS or key.startswith(_MARK_TAINT_PREFIXES)}
    marks |= {c["type"] for c in conditions if c["type"] in _MARK_CONDITIONS and c["status"] == "True"}
    marks |= {MARK_SHUTDOWN for c in conditions if c["type"] == "Ready" and _SHUTTING_DOWN in c.get("message", "")}
    return sorted(marks)
