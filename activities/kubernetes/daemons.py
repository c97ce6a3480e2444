"""What runs on every node: our node agent, and the validator of NVIDIA's GPU operator. Read from memory.

Whoever may create pods in some namespace can give them any label and the name of any node. So only pods that a
DaemonSet made are believed, in the namespace in which the agent or the operator is installed.
"""

from dataclasses import dataclass
from typing import Any

from temporalio.common import MetricMeter

from api.object_conditions import is_true
from api.projections import agent_view
from api.views import AgentView
from clients.informer import Informer, Kind
from clients.kube import Json, Kube, selector
from clients.watch import Resource

VALIDATOR = "nvidia-operator-validator"
"""Name and label of the validator: Ready once the GPUs of its node work."""
AGENT = {"app.kubernetes.io/name": "outlast", "app.kubernetes.io/component": "agent"}
"""Labels of the node agent's DaemonSet and of its pods."""


@dataclass(frozen=True)
class DaemonNamespaces:
    """The namespaces in which they are installed. Only administrators may create pods there."""

    gpu_operator: str = "gpu-operator"
    agent: str = "outlast-system"


USUAL = DaemonNamespaces()
"""The namespaces unless a setting names others."""


@dataclass(frozen=True, slots=True)
class Validator:
    """A validator's pod."""

    node: str
    ready: bool


@dataclass(frozen=True, slots=True)
class Agent:
    """A node agent's pod. If a node has several, the one of the highest ``rank`` counts: alive, or else the newest."""

    node: str
    rank: tuple[bool, str]
    view: AgentView


def is_of_daemon_set(pod: Json) -> bool:
    """True if a DaemonSet controls the pod. Only those who may create pods in its namespace can make that up."""
    owners = pod["metadata"].get("ownerReferences") or []
    return any(owner["kind"] == "DaemonSet" and owner.get("controller") for owner in owners)


def _validator(pod: Json) -> Validator | None:
    if not is_of_daemon_set(pod):
        return None
    return Validator(pod["spec"].get("nodeName", ""), is_true(pod, "Ready"))


def _agent(pod: Json) -> Agent | None:
    if not is_of_daemon_set(pod):
        return None
    alive = (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}
    rank = (alive, pod["metadata"].get("creationTimestamp") or "")
    return Agent(pod["spec"].get("nodeName", ""), rank, agent_view([pod], installed=True))


_PODS = ("v1", "pods")
_SETS = ("apps/v1", "daemonsets")


class Daemons:
    """The memory of these pods and of the DaemonSets that make them."""

    def __init__(self, kube: Kube, meter: MetricMeter = MetricMeter.noop, where: DaemonNamespaces = USUAL) -> None:
        validators = Resource(*_PODS, selector({"app": VALIDATOR}), namespace=where.gpu_operator)
        agents = Resource(*_PODS, selector(AGENT), namespace=where.agent)
        validator_sets = Resource(*_SETS, fields=selector({"metadata.name": VALIDATOR}), namespace=where.gpu_operator)
        agent_sets = Resource(*_SETS, selector(AGENT), namespace=where.agent)
        self._validators = Informer(kube, Kind("validators", validators, _validator, lambda pod: pod.node), meter)
        self._agents = Informer(kube, Kind("agents", agents, _agent, lambda pod: pod.node), meter)
        self._validator_sets = Informer(kube, Kind("validators' daemonsets", validator_sets, lambda _: True), meter)
        self._agent_sets = Informer(kube, Kind("agents' daemonsets", agent_sets, lambda _: True), meter)
        self.informers: list[Informer[Any]] = [
            self._validators, self._agents, self._validator_sets, self._agent_sets
        ]  # fmt: skip

    async def gpu_operator(self) -> bool:
        """True if the cluster has the GPU operator's validator."""
        return bool((await self._validators.read()).items or (await self._validator_sets.read()).items)

    async def validated(self, node: str) -> bool:
        """True if a validator on this node says that its GPUs work."""
        return any(pod.ready for pod in (await self._validators.read()).of(node).values())

    async def agent(self, node: str) -> AgentView:
        """Describe the node agent on this node."""
        pods = (await self._agents.read()).of(node).values()
        if pods:
            return max(pods, key=lambda pod: pod.rank).view
        return agent_view([], installed=bool((await self._agent_sets.read()).items))
