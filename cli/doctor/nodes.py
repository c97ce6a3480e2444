"""The doctor's look at the machines: their GPUs, their agent, and whether their kubelet can checkpoint."""

import re
from collections.abc import AsyncIterator, Iterator

from api import names
from api.diagnosis import Finding
from api.object_conditions import is_true
from api.projections import node_view
from cli.doctor.versions import version_in
from cli.session import Cluster
from clients.kube import Json, KubeError, path, selector

AGENT = {"app.kubernetes.io/name": "outlast", "app.kubernetes.io/component": "agent"}
MOST = 50
"""Nodes that are told of one by one."""
BY_DEFAULT, AT_ALL = (1, 30), (1, 25)
"""Since these versions the kubelet's gate ContainerCheckpoint is on by default, and exists."""
CONTAINERD = (2, 0)
"""Since this version containerd makes checkpoints; CRI-O has done so since 1.25."""
GATE = re.compile(r'^kubernetes_feature_enabled\{name="ContainerCheckpoint"[^}]*\} ([01])', re.MULTILINE)


async def nodes(cluster: Cluster, system: str) -> AsyncIterator[Finding]:
    """Check the agent's DaemonSet, and each Node that was bought or offers GPUs."""
    found = await cluster.kube.find(path("apps/v1", "daemonsets", system, "outlast-agent"))
    remedy = "preemptions are seen late: install it (deploy/base)"
    told = "is there" if found else f"there is no DaemonSet outlast-agent in {system}"
    yield Finding(part="node agent", well=found is not None, told=told, remedy=remedy)
    agents = {
        pod["spec"].get("nodeName"): is_true(pod, "Ready")
        for pod in await cluster.kube.list(path("v1", "pods", system), labelSelector=selector(AGENT))
    }
    offering = shown = 0
    async for node in cluster.kube.each(path("v1", "nodes")):
        gpus, meta = node_view(node).gpus, node["metadata"]
        offering += gpus > 0
        bought = (meta.get("labels") or {}).get(names.LABEL_MANAGED_BY) == names.MANAGED_BY
        if not (gpus or bought) or shown >= MOST:
            continue
        shown += 1
        if bought:
            yield _agent(meta["name"], agents, system)
        yield await _checkpoints(cluster, node)
    more = f"; only the first {MOST} are told of" if shown >= MOST else ""
    none = "" if offering else ": all machines will be bought"
    yield Finding(part="GPUs", well=True, told=f"{offering} Nodes offer {names.GPU_RESOURCE}{none}{more}")


def _agent(node: str, agents: dict[str, bool], system: str) -> Finding:
    told = {True: "is ready", False: "is not ready", None: "is missing"}[agents.get(node)]
    remedy = f"kubectl -n {system} get pods -o wide --field-selector spec.nodeName={node}, and its log"
    return Finding(part=f"agent on {node}", well=agents.get(node) is True, told=told, remedy=remedy)


async def _checkpoints(cluster: Cluster, node: Json) -> Finding:
    """Say whether a Node's kubelet and runtime make checkpoints, by what the kubelet says or by their versions."""
    name, info = node["metadata"]["name"], node["status"].get("nodeInfo") or {}
    kubelet, runtime = info.get("kubeletVersion", ""), info.get("containerRuntimeVersion", "")
    gate = await _gate(cluster, name)
    problems = list(_problems(kubelet, runtime, gate))
    known = "" if gate is not None else ", by its version"
    told = "; ".join(problems) or f"can be made{known}"
    remedy = "mode Application needs no checkpoints of Kubernetes; else see docs/google-cloud.md, the VM image"
    return Finding(
        part=f"checkpoints on {name}", well=not problems, told=f"{told} ({kubelet}, {runtime})", remedy=remedy
    )


async def _gate(cluster: Cluster, node: str) -> bool | None:
    """Read the gate from the kubelet's metrics; None if it cannot be read, which needs the right to nodes/proxy."""
    where = f"{path('v1', 'nodes', name=node, sub='proxy')}/metrics"
    text = ""
    try:
        async for piece in cluster.kube.stream(where, lasts=5):
            text += piece.decode(errors="replace")
    except (KubeError, OSError, TimeoutError):
        return None
    found = GATE.search(text)
    return found[1] == "1" if found else None


def _problems(kubelet: str, runtime: str, gate: bool | None) -> Iterator[str]:
    if gate is False:
        yield "the kubelet's feature gate ContainerCheckpoint is off"
    elif gate is None and (version := version_in(kubelet)) is not None and version < BY_DEFAULT:
        old = version < AT_ALL
        yield "this kubelet is too old" if old else "the kubelet's feature gate ContainerCheckpoint is off by default"
    kind, _, of_runtime = runtime.partition("://")
    found = version_in(of_runtime)
    if kind == "containerd" and found is not None and found < CONTAINERD:
        yield "containerd makes none before 2.0"
