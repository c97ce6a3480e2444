"""Nodes: who has a replica or a VM there hears when it becomes ready, gets its GPUs, is marked for its end, or is gone.

A mark is the shortest way by which a preemption is known, so it never waits behind another message: each notice has a
queue of its own.
"""

from dataclasses import dataclass
from functools import partial

from api import names
from api.messages import NodeChanged, PreemptionNotice
from api.projections import node_view
from api.views import NodeView
from clients.kube import Json
from crd_bridge.pods import Replicas
from crd_bridge.queues import Queues
from crd_bridge.temporal import Gateway


@dataclass(frozen=True)
class Node:
    """A node as it was last seen; ``workflow`` of the job for which it was bought, where it was."""

    view: NodeView
    version: int
    workflow: str | None = None

    @property
    def projection(self) -> tuple[object, ...]:
        """What of it decides something."""
        view = self.view
        return view.uid, view.exists, view.ready, view.schedulable, view.gpus, tuple(view.marks), tuple(view.unfit)


class Nodes:
    """All nodes of the cluster."""

    def __init__(self, gateway: Gateway, queues: Queues) -> None:
        self.replicas: Replicas | None = None  # who has a pod where; they tell us in turn where one came or went
        self._gateway = gateway
        self._queues = queues
        self._nodes: dict[str, Node] = {}
        self._told: dict[str, dict[str, tuple[object, ...]]] = {}  # node → workflow → projection
        self._noticed: dict[str, set[str]] = {}  # marked node → workflows that were told

    def changed(self, key: str, item: Json | None, version: int) -> None:
        """A node changed or, without ``item``, is gone."""
        old = self._nodes.get(key)
        if item is not None:
            annotations = item["metadata"].get("annotations") or {}
            workflow = annotations.get(names.ANNOTATION_WORKFLOW, "")
            node = Node(node_view(item), version, workflow if names.is_job_workflow_id(workflow) else None)
        elif old is not None:
            node = Node(NodeView(name=key, uid=old.view.uid, exists=False), version, old.workflow)
        else:
            return
        if old and node.projection == old.projection and node.workflow == old.workflow:
            return
        if not (old and old.view.marks and old.view.uid == node.view.uid):
            self._noticed.pop(key, None)
        self._nodes[key] = node
        self.tell(key)
        if not node.view.exists:
            del self._nodes[key]
            self._told.pop(key, None)
            self._noticed.pop(key, None)

    def tell(self, name: str) -> None:
        """The node changed, or a pod came or went: tell everybody there what they have not heard."""
        node = self._nodes.get(name)
        if node is None:
            return
        jobs = self.replicas.on(name) if self.replicas else set()
        if node.view.marks:
            self._notify(node, jobs | ({node.workflow} if node.workflow else set()))
        told = self._told.setdefault(name, {})
        key = names.vm_key_of(name)
        here = jobs | ({names.vm_workflow_id(key)} if key else set())
        for gone in told.keys() - here:
            del told[gone]
        for workflow in here:
            if told.get(workflow) != node.projection:
                told[workflow] = node.projection
                message = NodeChanged(version=node.version, view=node.view)
                self._queues.put(("node", name, workflow), partial(self._signal, workflow, "node_changed", message))

    def _notify(self, node: Node, jobs: set[str]) -> None:
        """Tell the jobs there that their machine is going, once each."""
        noticed = self._noticed.setdefault(node.view.name, set())
        for workflow in jobs - noticed:
            noticed.add(workflow)
            message = PreemptionNotice(node=node.view.name, source=node.view.marks[0], at=node.view.marked_at)
            key = ("notice", node.view.name, workflow)
            self._queues.put(key, partial(self._signal, workflow, "preemption_notice", message))

    async def _signal(self, workflow: str, signal: str, message: NodeChanged | PreemptionNotice) -> None:
        await self._gateway.signal(workflow, signal, message)
