"""The activities on Nodes: see, label, drain and delete them."""

import asyncio
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import signatures
from activities.signatures import Drained, NodeReadiness, NodeRef, PrepareNode
from activities.tokens import Tokens, token_id_of
from api import names
from api.names import TAINT_JOINING
from api.projections import agent_view, is_mirror, node_view
from api.views import AgentView, NodeView
from clients.kube import Json, Kube, KubeError, path, selector

VALIDATOR = "nvidia-operator-validator"  # of NVIDIA's GPU operator: Ready once the GPUs of its node work
AGENT = {"app.kubernetes.io/name": "outlast", "app.kubernetes.io/component": "agent"}
"""Labels of the node agent's DaemonSet and of its pods, in whichever namespace it was put."""
TRIES = 5


class NodeActivities:
    """Works on Nodes.

    Args:
        kube: the cluster.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._tokens = Tokens(kube)

    @activity.defn(name=signatures.OBSERVE_NODE.name)
    async def observe_node(self, ref: NodeRef) -> NodeReadiness:
        """Read a Node, whether its node agent runs, and what the GPU operator's validator says if there is one."""
        node = await self._find(ref)
        if node is None:
            return NodeReadiness(view=NodeView(name=ref.name, exists=False))
        validators = await self._kube.list(path("v1", "pods"), labelSelector=selector({"app": VALIDATOR}))
        here = [pod for pod in validators if pod["spec"].get("nodeName") == ref.name]
        return NodeReadiness(
            view=node_view(node),
            gpu_operator=bool(validators) or await self._validator_is_deployed(),
            validated=any(_is_ready(pod) for pod in here),
            agent=await self._agent(ref.name),
        )

    async def _agent(self, node: str) -> AgentView | None:
        """Look at the node agent, which belongs only on nodes that were bought."""
        if names.vm_key_of(node) is None:
            return None
        here = {"fieldSelector": selector({"spec.nodeName": node}), "labelSelector": selector(AGENT)}
        pods = await self._kube.list(path("v1", "pods"), **here)
        sets = [] if pods else await self._kube.list(path("apps/v1", "daemonsets"), labelSelector=selector(AGENT))
        return agent_view(pods, installed=bool(sets))

    async def _validator_is_deployed(self) -> bool:
        sets = await self._kube.list(
            path("apps/v1", "daemonsets"), fieldSelector=selector({"metadata.name": VALIDATOR})
        )
        return bool(sets)

    @activity.defn(name=signatures.PREPARE_NODE.name)
    async def prepare_node(self, prepare: PrepareNode) -> NodeView:
        """Set the labels and annotations that a kubelet may not set on its own Node, and cordon a reserved one.

        In the patch that cordons the Node its joining taint goes, so there is no moment in which others may come.
        """
        for _ in range(TRIES):
            node = await self._find(prepare.node)
            if node is None:
                return NodeView(name=prepare.node.name, exists=False)
            try:
                return node_view(
                    await self._kube.patch(path("v1", "nodes", name=prepare.node.name), _prepared(node, prepare))
                )
            except KubeError as error:
                if error.status != 409:
                    raise
        raise ApplicationError(f"Node {prepare.node.name} is changed by others all the time: not prepared")

    @activity.defn(name=signatures.CORDON_AND_DRAIN.name)
    async def cordon_and_drain(self, ref: NodeRef) -> Drained:
        """Keep new pods away and evict those that are there; repeat until none remains.

        Pods of DaemonSets and static pods stay, they end with the machine. An eviction that a PodDisruptionBudget
        refuses is asked for again by the next call.
        """
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
        """Ask for a pod's end as an eviction does; True while it is still there.

        An eviction does not say on which node its pod is, so no policy could hold it to nodes of ours. Its dry run says
        whether a PodDisruptionBudget lets the pod go, and the deletion that follows is one that a policy sees.
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
            if error.status in {404, 409}:  # gone, or another pod of that name already
                return False
            if error.status != 429:  # a disruption budget holds it: not yet
                raise
        return True

    @activity.defn(name=signatures.DELETE_NODE.name)
    async def delete_node(self, ref: NodeRef) -> NodeView:
        """Delete a Node object; with ``uid`` only that one, never its successor of the same name.

        First goes a bootstrap token that was minted for this VM and that nobody has revoked: by it the Node comes back.
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
        return node if node is not None and ref.uid in {None, node["metadata"]["uid"]} else None


def _prepared(node: Json, prepare: PrepareNode) -> Json:
    """Build the patch that prepares a Node; with its version if it rewrites the taints, which others write, too."""
    metadata = {"labels": prepare.labels, "annotations": prepare.annotations, "uid": node["metadata"]["uid"]}
    if not prepare.reserved:
        return {"metadata": metadata}
    taints = node["spec"].get("taints") or []
    wanted = _reserving(taints, names.vm_key_of(node["metadata"]["name"]))
    if wanted == taints:
        return {"metadata": metadata, "spec": {"unschedulable": True}}
    metadata["resourceVersion"] = node["metadata"]["resourceVersion"]
    return {"metadata": metadata, "spec": {"unschedulable": True, "taints": wanted}}


def _reserving(taints: list[Json], key: str | None) -> list[Json]:
    """The taints of a reserved Node: without the one for joining, with its buyer's.

    Root on the machine can register it without the buyer's taint and can uncordon it. What a kubelet cannot do is take
    a taint off its Node, so other teams' pods stay away but for those that tolerate GPUs.
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
    metadata: dict[str, Any] = pod["metadata"]
    owners = metadata.get("ownerReferences") or []
    daemon = any(owner["kind"] == "DaemonSet" and owner.get("controller") for owner in owners)
    return daemon or is_mirror(pod)


def _is_ready(pod: Json) -> bool:
    conditions = pod["status"].get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
