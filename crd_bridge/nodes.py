"""Nodes: the workflow of a replica or VM there is told when it becomes ready, gets its GPUs or a notice, or is gone.

A preemption taint is the fastest news of a preemption, so it never waits behind another message: each notice has its
own queue, and is urgent there.
"""

from dataclasses import dataclass
from functools import partial

from api import names
from api.messages import NodeChanged, NodeNotice
from api.projections import node_view
from api.views import NodeView
from clients.kube import Json
from crd_bridge.pods import Replicas
from crd_bridge.queues import Queues
from crd_bridge.reported import Reported, Version
from crd_bridge.temporal import Gateway

PLURAL = "nodes"


@dataclass(frozen=True, slots=True)
class Node:
    """A node as it was last seen; ``workflow`` is that of the job for which it was bought, None if it was not."""

    view: NodeView
    version: int
    workflow: str | None = None
    known: bool = False
    """True if it was reported so before this bridge began, to all who were there."""

    @property
    def projection(self) -> tuple[object, ...]:
        """Give the parts on which decisions depend."""
        view = self.view
        return view.uid, view.exists, view.ready, view.schedulable, view.gpus, tuple(view.marks), tuple(view.unfit)

    @property
    def uncordoned(self) -> tuple[object, ...]:
        """Give the projection as it was before the node was cordoned."""
        uid, exists, ready, _, *rest = self.projection
        return uid, exists, ready, True, *rest


class Nodes:
    """All nodes of the cluster."""

    def __init__(self, gateway: Gateway, queues: Queues, reported: Reported) -> None:
        self._reported = reported
        self.replicas: Replicas | None = None  # who has a pod where; they call us when one comes or goes
        self._gateway = gateway
        self._queues = queues
        self._nodes: dict[str, Node] = {}
        self._told: dict[str, dict[str, int]] = {}  # node → workflow → hash of the projection that was reported
        self._noticed: dict[str, set[str]] = {}  # tainted node → workflows that were notified

    def changed(self, key: str, item: Json | None, version: int) -> None:
        """Report a change; without ``item`` the node is gone."""
        old = self._nodes.get(key)
        if item is not None:
            annotations = item["metadata"].get("annotations") or {}
            workflow = annotations.get(names.ANNOTATION_WORKFLOW, "")
            owner = workflow if names.is_job_workflow_id(workflow) else None
            node = Node(node_view(item), version, owner, known=self._reported.covers(PLURAL, version))
        elif old is not None:
            node = Node(NodeView(name=key, uid=old.view.uid, exists=False), version, old.workflow)
        else:
            return
        if old and node.projection == old.projection and node.workflow == old.workflow:
            return
        if not (old and old.view.marks and old.view.uid == node.view.uid):
            self._noticed.pop(key, None)
        self._nodes[key] = node
        self.tell(key, (PLURAL, version))
        if not node.view.exists:
            del self._nodes[key]
            self._told.pop(key, None)
            self._noticed.pop(key, None)

    def tell(self, name: str, owed: Version) -> None:
        """Report to every workflow there what it does not know.

        ``owed`` is the version of what has changed: the node, or a pod that came or went.
        """
        node = self._nodes.get(name)
        if node is None:
            return
        here = self.replicas.on(name) if self.replicas else {}
        if node.view.marks:
            self._notify(node, ({node.workflow: True} if node.workflow else {}) | here, owed)
        key = names.vm_key_of(name)
        of_vm = names.vm_workflow_id(key) if key else ""
        if of_vm:
            here[of_vm] = True
        told = self._told.get(name, {})
        for gone in told.keys() - here.keys():
            del told[gone]
        projection = hash(node.projection)
        for workflow, known in here.items():
            if told.get(workflow) == projection:
                continue
            is_news = workflow != of_vm or told.get(workflow) != hash(node.uncordoned)  # which it cordons itself
            if is_news and not (node.known and known and workflow not in told):
                message = NodeChanged(version=node.version, view=node.view)
                work = partial(self._signal, workflow, "node_changed", message)
                self._queues.put(("node", name, workflow), work, owed=owed)
            self._told.setdefault(name, told)[workflow] = projection

    def _notify(self, node: Node, jobs: dict[str, bool], owed: Version) -> None:
        """Notify the jobs there that their machine is about to go, each once; see ``Replicas.on``.

        The notice carries the Node's view, so that no second message has to.
        """
        view = node.view
        noticed = self._noticed.setdefault(view.name, set())
        for workflow in jobs.keys() - noticed:
            noticed.add(workflow)
            if node.known and jobs[workflow]:
                continue
            message = NodeNotice(
                node=view.name, source=view.marks[0], at=view.marked_at, view=view, version=node.version
            )
            work = partial(self._signal, workflow, "preemption_notice", message)
            self._queues.put(("notice", view.name, workflow), work, urgent=True, owed=owed)
            self._told.setdefault(view.name, {})[workflow] = hash(node.projection)

    async def _signal(self, workflow: str, signal: str, message: NodeChanged | NodeNotice) -> None:
        await self._gateway.signal(workflow, signal, message)
