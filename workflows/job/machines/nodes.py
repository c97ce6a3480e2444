"""The nodes under the replicas of one job: how they were last seen, their notices, and what follows from them.

The workflow of a bought VM reports more than its Node does, and sooner. Of a node that the cluster had before, only the
Node is known.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.views import NodeView, ReplicaView
    from workflows.job.machines.policy import losses
    from workflows.job.machines.policy.long_notice import trains_until
    from workflows.policy.notice import ends_at

from workflows.job.core.job import Job
from workflows.job.state.job import Notice
from workflows.job.state.replica import Old, Replica
from workflows.job.state.seats import Seated

SAVES_KEPT = 3
"""How many of a gang's last saves are remembered with the time that they took."""


class Nodes:
    """Records what is known of the nodes of one job, and judges the machines under them."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state

    # --- what is reported

    def changed(self, version: int, view: NodeView) -> None:
        """Take in a version of a Node from the bridge. Older versions are ignored."""
        if version > self.state.node_versions.get(view.name, 0):
            self.state.node_versions[view.name] = version
            self.see(view)

    def see(self, view: NodeView) -> None:
        """Record how a Node is now. A preemption taint or condition on it is a notice."""
        self.state.nodes[view.name] = view
        if view.marks:
            self.notice(view.name, view.marks[0], began=view.marked_at)
        if view.exists and not view.ready:
            self.state.unready.setdefault(view.name, workflow.now())
        else:
            self.state.unready.pop(view.name, None)
        self.job.touch()

    def notice(
        self, node: str, source: str, *, seconds_left: float | None = None, began: datetime | None = None
    ) -> None:
        """Record a notice.

        Args:
            node: The node whose machine is about to go.
            source: Who gives the notice.
            seconds_left: The seconds left, as the notice states them.
            began: When the cloud gave its notice, by the machine's own clock.
        """
        reports = [vm.report for vm in self.state.vms.values() if vm.report]
        usual = next((report.notice_seconds for report in reports if report.vm_name == node), None)
        self.record(node, source, ends_at(workflow.now(), seconds_left=seconds_left, began=began, usual=usual))

    def record(self, node: str, source: str, ends: datetime | None) -> None:
        """Record a notice by the time at which it ``ends``.

        A second one of the same machine changes nothing, unless a gang trains on until a later end.
        """
        known = self.state.notices.get(node)
        if known is None:
            self.state.notices[node] = Notice(source=source, at=workflow.now(), ends_at=ends)
            self.job.touch()
        elif known.ends_at is not None and self._is_of_gang(node) and (ends is None or ends < known.ends_at):
            known.ends_at = ends
            self.job.touch()

    def _is_of_gang(self, node: str) -> bool:
        return any(one.place.is_gang and one.place.is_on(node) for one in self.state.replicas.values())

    def old_changed(self, replica: Replica, old: Old, view: ReplicaView) -> None:
        """Take in how an old incarnation is now. Once all of a gang has stopped, it is known how long its save took."""
        old.view = view
        if old.told_at is not None and self.stopped(old):
            seconds = (workflow.now() - old.told_at).total_seconds()
            replica.place.save_seconds = [*replica.place.save_seconds, seconds][-SAVES_KEPT:]
            old.told_at = None

    def forget_unused(self) -> None:
        """Forget nodes that no replica, VM or checkpoint uses, because the state is bounded."""
        state, replicas = self.state, self.state.replicas.values()
        used: set[str | None] = {node for one in replicas for node in [*one.place.nodes, *one.place.candidates]}
        used |= {node for one in replicas if one.recovery for old in one.recovery.olds for node in old.nodes}
        used |= {name for vm in state.vms.values() if vm.report for name in (vm.report.node_name, vm.report.vm_name)}
        used |= {record.node for record in state.checkpoints.values() if record.outcome is None}
        for name in [name for name in [*state.notices, *state.nodes] if name not in used]:
            state.notices.pop(name, None)
            state.nodes.pop(name, None)
            state.node_versions.pop(name, None)
            state.unready.pop(name, None)

    # --- what follows

    def failed(self, key: str | None) -> bool:
        """True if a VM is of no more use: it has reported so, or its machine has had a notice."""
        return losses.failed(self.state, key)

    def search_for(self, replica: Replica, members: int) -> act.FindCapacity:
        """Ask for free GPUs for so many members, neither on nodes of other replicas nor on those that failed it."""
        place, spec = replica.place, self.job.spec
        others = [node for one in self.state.replicas.values() if one is not replica for node in one.place.nodes]
        shunned = [node for node, until in place.shunned.items() if until > workflow.now()]
        return act.FindCapacity(
            job=self.job.ref,
            job_template=spec.job_template,
            avoid=sorted({*others, *self.state.notices, *shunned, *place.avoid, *place.free_nodes}),
            members=members,
            one_zone=spec.in_one_zone,
            beside=place.free_nodes,
        )

    def unready_for(self, nodes: Iterable[str]) -> timedelta:
        """Return for how long one of these nodes has been NotReady; zero if all are Ready or unknown."""
        return max((losses.unready_for(self.state, node, workflow.now()) for node in nodes), default=timedelta())

    def lost_members(self, place: Seated) -> list[int]:
        """Number the members whose machines are gone, or about to go by a notice."""
        return losses.lost_members(self.state, place, workflow.now())

    def trains_until(self, replica: Replica) -> datetime | None:
        """Return until when a gang trains on although machines of it are about to go; None if it does not."""
        return trains_until(self.state, replica, workflow.now())

    def silent(self, place: Seated) -> list[str]:
        """List the nodes of a gang that are NotReady while the other members wait for them."""
        return losses.silent_nodes(self.state, place, workflow.now())

    def silent_at(self, place: Seated) -> datetime | None:
        """Return when a NotReady node of a gang counts as silent; None if none is NotReady."""
        since = [self.state.unready[node] for node in place.nodes if node in self.state.unready]
        if not place.others or not since:
            return None
        return min(since) + timedelta(seconds=self.state.timings.gang_silence)

    def dead(self, old: Old) -> bool:
        """True if all machines of an old incarnation are confirmed not to run."""
        return all(losses.is_dead(self.state, seat, workflow.now()) for seat in old.seats)

    def stopped(self, old: Old) -> bool:
        """True if each pod of an old incarnation is confirmed to have stopped, or its machine is gone."""
        return losses.has_stopped(self.state, old, workflow.now())
