"""The activities on Nodes: read, label, drain and delete them."""

import asyncio

from temporalio import activity

from activities import signatures
from activities.heartbeat import heartbeats, watch, watch_seconds
from activities.join.tokens import Tokens, token_id_of
from activities.kubernetes.daemons import Daemons, is_of_daemon_set
from activities.signatures import Drained, NodeReadiness, NodeRef, PrepareNode
from api import names
from api.names import TAINT_JOINING
from api.projections import is_mirror, node_view
from api.views import NodeView
from clients.changes import change
from clients.kube import Json, Kube, KubeError, path, selector

EVERY_THREE_SECONDS = (3.0, 3.0)
"""The pauses while a validator or evicted pods are waited for, which take some time anyway."""


class NodeActivities:
    """Works on Nodes.

    Args:
        kube: the cluster.
        daemons: what runs on every node.
    """

    def __init__(self, kube: Kube, daemons: Daemons) -> None:
        self._kube = kube
        self._daemons = daemons
        self._tokens = Tokens(kube)

    @activity.defn(name=signatures.OBSERVE_NODE.name)
    async def observe_node(self, ref: NodeRef) -> NodeReadiness:
        """Read a Node, whether its node agent runs, and what the GPU operator's validator says if there is one.

        For a patient caller the validator of a Ready node is waited for.
        """
        async with heartbeats():
            return await watch(
                lambda: self._observe(ref),
                lambda seen: not (seen.view.ready and seen.gpu_operator and not seen.validated),
                watch_seconds(),
                EVERY_THREE_SECONDS,
            )

    async def _observe(self, ref: NodeRef) -> NodeReadiness:
        node = await self._find(ref)
        if node is None:
            return NodeReadiness(view=NodeView(name=ref.name, exists=False))
        gpu_operator, validated, agent = await asyncio.gather(
            self._daemons.gpu_operator(), self._daemons.validated(ref.name), self._daemons.agent(ref.name)
        )
        is_bought = names.vm_key_of(ref.name) is not None  # only these run our agent
        return NodeReadiness(
            view=node_view(node), gpu_operator=gpu_operator, validated=validated, agent=agent if is_bought else None
        )

    @activity.defn(name=signatures.PREPARE_NODE.name)
    async def prepare_node(self, prepare: PrepareNode) -> NodeView:
        """Set the labels and annotations that a kubelet may not set on its own Node, and cordon a reserved one.

        The patch that cordons the Node also removes its joining taint, so at no moment can other pods come.
        """
        ref = prepare.node

        def prepared(node: Json) -> Json | None:
            return _prepared(node, prepare) if _is_meant(node, ref) else None

        node = await change(self._kube, path("v1", "nodes", name=ref.name), prepared, "it is not prepared")
        return node_view(node) if node is not None and _is_meant(node, ref) else NodeView(name=ref.name, exists=False)

    @activity.defn(name=signatures.CORDON_AND_DRAIN.name)
    async def cordon_and_drain(self, ref: NodeRef) -> Drained:
        """Keep new pods away and evict those that are there; repeat until none remains.

        Pods of DaemonSets and static pods stay and end with the machine. An eviction that a PodDisruptionBudget
        refuses is requested again by the next call, or by this one for as long as a patient caller allows.
        """
        async with heartbeats():
            return await watch(
                lambda: self._drain(ref), lambda drained: not drained.remaining, watch_seconds(), EVERY_THREE_SECONDS
            )

    async def _drain(self, ref: NodeRef) -> Drained:
        node = await self._find(ref)
        if node is None:
            return Drained(remaining=[])
        if not (node.get("spec") or {}).get("unschedulable"):
            cordon = {"metadata": {"uid": node["metadata"]["uid"]}, "spec": {"unschedulable": True}}
            await self._kube.patch(path("v1", "nodes", name=ref.name), cordon)
        pods = await self._kube.list(path("v1", "pods"), fieldSelector=selector({"spec.nodeName": ref.name}))
        leaving = [pod for pod in pods if _must_leave(pod)]
        stayed = await asyncio.gather(*(self._evict(pod) for pod in leaving))
        where = [f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in leaving]
        return Drained(remaining=[name for name, remains in zip(where, stayed, strict=True) if remains])

    async def _evict(self, pod: Json) -> bool:
        """Ask for a pod's end as an eviction does; True while the pod still exists.

        An eviction does not say on which node its pod is, so no policy could restrict it to nodes of ours. Its dry run
        says whether a PodDisruptionBudget allows it, and the deletion that follows is one that a policy sees.
        """
        metadata = pod["metadata"]
        if metadata.get("deletionTimestamp"):
            return True
        where = path("v1", "pods", metadata["namespace"], metadata["name"])
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        }
        try:
            await self._kube.create(f"{where}/eviction", eviction, dryRun="All")
            return await self._kube.delete(where, uid=metadata["uid"])
        except KubeError as error:
            if error.status in {404, 409}:  # gone, or replaced by another pod of that name
                return False
            if error.status != 429:  # a disruption budget blocks it for now
                raise
        return True

    @activity.defn(name=signatures.DELETE_NODE.name)
    async def delete_node(self, ref: NodeRef) -> NodeView:
        """Delete a Node object; with ``uid`` only that one, never its successor of the same name.

        A bootstrap token that was made for this VM and not yet revoked goes first, because the Node could return by it.
        """
        if names.vm_key_of(ref.name) is not None:
            await self._tokens.revoke(token_id_of(ref.name))
        try:
            await self._kube.delete(path("v1", "nodes", name=ref.name), uid=ref.uid)
        except KubeError as error:
            if error.status != 409:
                raise
        left = await self._find(ref)
        return node_view(left) if left else NodeView(name=ref.name, exists=False)

    async def _find(self, ref: NodeRef) -> Json | None:
        node = await self._kube.find(path("v1", "nodes", name=ref.name))
        return node if node is not None and _is_meant(node, ref) else None


def _is_meant(node: Json, ref: NodeRef) -> bool:
    """True if it is this Node, not a successor of the same name."""
    return ref.uid in {None, node["metadata"]["uid"]}


def _prepared(node: Json, prepare: PrepareNode) -> Json:
    """Build the patch that prepares a Node. It rewrites all taints, which others write, too."""
    metadata = {"labels": prepare.labels, "annotations": prepare.annotations}
    if not prepare.reserved:
        return {"metadata": metadata}
    taints = _reserving(node["spec"].get("taints") or [], names.vm_key_of(node["metadata"]["name"]))
    return {"metadata": metadata, "spec": {"unschedulable": True, "taints": taints}}


def _reserving(taints: list[Json], key: str | None) -> list[Json]:
    """List the taints of a reserved Node: without the one for joining, with its buyer's.

    Root on the machine can register it without the buyer's taint and can uncordon it. But a kubelet cannot remove a
    taint from its Node, so other teams' pods stay away, except those that tolerate GPUs.
    """
    kept = [taint for taint in taints if taint["key"] != TAINT_JOINING]
    buyers = {"key": names.GPU_RESOURCE, "value": names.job_id_in(key or ""), "effect": "NoSchedule"}
    if key is None or buyers in kept:
        return kept
    others = [taint for taint in kept if (taint["key"], taint["effect"]) != (buyers["key"], buyers["effect"])]
    return [*others, buyers]


def _must_leave(pod: Json) -> bool:
    return not belongs_to_node(pod) and pod["status"].get("phase") not in {"Succeeded", "Failed"}


def belongs_to_node(pod: Json) -> bool:
    """True for a DaemonSet's pod and a static one, which every node has."""
    return is_of_daemon_set(pod) or is_mirror(pod)
