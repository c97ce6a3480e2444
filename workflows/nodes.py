"""The machines under the replicas of one job as they are told of: seen, announced to go, NotReady, gone.

Of a machine that was bought its own workflow tells more, and sooner, than its Node; of one that is the cluster's own
the Node is all that there is.
"""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api.views import NodeView
    from workflows.policy.notice import ends_at
    from workflows.policy.survivor import going

from workflows.job import Job
from workflows.state import Notice, Old, Replica


class Nodes:
    """What is known of the nodes of one job and of the VMs that they are."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state

    # --- what is told

    def see(self, view: NodeView) -> None:
        """A Node as it is now; its marks are notices."""
        self.state.nodes[view.name] = view
        if view.marks:
            self.notice(view.name, view.marks[0], began=view.marked_at)
        if view.exists and not view.ready:
            self.state.unready.setdefault(view.name, workflow.now())
        else:
            self.state.unready.pop(view.name, None)
        self.job.touch()

    def notice(self, node: str, source: str, *, told: float | None = None, began: datetime | None = None) -> None:
        """Somebody announces a machine's end: ``told`` so many seconds from now, or in a notice that ``began`` then."""
        reports = [vm.report for vm in self.state.vms.values() if vm.report]
        usual = next((report.notice_seconds for report in reports if report.vm_name == node), None)
        self.record(node, source, ends_at(workflow.now(), told=told, began=began, usual=usual))

    def record(self, node: str, source: str, ends: datetime | None) -> None:
        """The second notice of the same machine changes nothing, whoever it comes from."""
        if node not in self.state.notices:
            self.state.notices[node] = Notice(source=source, at=workflow.now(), ends_at=ends)
            self.job.touch()

    def forget_unused(self) -> None:
        """The state is bounded: of a node that nobody uses any more nothing is kept."""
        state, replicas = self.state, self.state.replicas.values()
        used = {replica.node for replica in replicas}
        used |= {node for replica in replicas for node in replica.candidates}
        used |= {old.node for replica in replicas if replica.recovery for old in replica.recovery.olds}
        used |= {name for vm in state.vms.values() if vm.report for name in (vm.report.node_name, vm.report.vm_name)}
        used |= {record.node for record in state.checkpoints.values() if record.outcome is None}
        for name in [name for name in [*state.notices, *state.nodes] if name not in used]:
            state.notices.pop(name, None)
            state.nodes.pop(name, None)
            state.node_versions.pop(name, None)
            state.unready.pop(name, None)

    # --- what follows

    def failed(self, key: str | None) -> bool:
        """The VM is of no use any more: it said so, or somebody announced its end."""
        vm = self.state.vms.get(key or "")
        if vm is None or vm.report is None:
            return False
        name = vm.report.vm_name  # the Node's too
        return vm.failed or (name is not None and going(name, self.state.nodes, self.state.notices))

    def node_of(self, replica: Replica) -> str | None:
        """The node under a replica, or the one that is on its way."""
        vm = self.state.vms.get(replica.vm_key or "")
        return replica.node or (vm.report.vm_name if vm and vm.report else None)

    def unready_for(self, node: str | None) -> timedelta:
        """How long a node is NotReady; zero where it is Ready or unknown."""
        since = self.state.unready.get(node or "")
        return workflow.now() - since if since else timedelta()

    def abandoned(self, node: str | None, vm_key: str | None) -> bool:
        """NotReady for too long, and no cloud to ask about it: a machine that we did not buy."""
        return vm_key is None and self.unready_for(node) >= timedelta(seconds=self.state.timings.not_ready_grace)

    def dead(self, old: Old) -> bool:
        """Its machine is confirmed not to run."""
        vm = self.state.vms.get(old.vm_key or "")
        node = self.state.nodes.get(old.node or "")
        forgotten = old.vm_key is not None and vm is None  # dropped when it was gone
        gone = node is not None and not node.exists
        return forgotten or gone or (vm is not None and vm.dead) or self.abandoned(old.node, old.vm_key)

    def stopped(self, old: Old) -> bool:
        """The old pod is confirmed stopped, or its machine is gone."""
        if self.dead(old):
            return True
        view = old.view
        if view is None:
            return False
        if view.pod is None:
            return not view.job_exists or view.job_failed is not None
        return view.pod.phase in {"Succeeded", "Failed"}
