"""The regular look at what runs, in case a message was lost: at all replicas of a job at once."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act

from workflows.common.calls import call, explain
from workflows.common.patches import patched
from workflows.job.checkpoints.reported_progress import ReportedProgress
from workflows.job.core.job import Job
from workflows.job.machines.nodes import Nodes
from workflows.job.stalls import Stalls


class Looks:
    """Looks at the running replicas of one job, at their progress, and at the nodes that were not bought."""

    def __init__(self, job: Job, nodes: Nodes, reported_progress: ReportedProgress, stalls: Stalls) -> None:
        self.job = job
        self.nodes = nodes
        self.reported_progress = reported_progress
        self.stalls = stalls

    async def run(self) -> None:
        """Look once a resync, until the job ends. A look that failed is repeated soon."""
        if not patched("one-look"):
            return
        seen = True
        while not self.job.closing:
            at = self.job.next_look() if seen else self.job.next_check()
            await self.job.until(lambda: self.job.closing, at, "the next look at the replicas")
            if not self.job.closing:
                seen = await self._look()

    async def _look(self) -> bool:
        """Read Jobs, pods and nodes. What the bridge reports meanwhile is newer and counts instead."""
        running = [replica for replica in self.job.state.replicas.values() if replica.phase == "Running"]
        if not running:
            return True
        nodes = sorted({node for replica in running for node in replica.place.free_nodes})
        versions = {node: self.job.state.node_versions.get(node) for node in nodes}
        asked = [(replica, replica.incarnation, replica.run.view_version) for replica in running]
        request = act.LookAtReplicas(
            job=self.job.ref,
            replicas=[(replica.index, replica.incarnation) for replica in running],
            nodes=nodes,
            log_pattern=self.reported_progress.log_pattern,
        )
        try:
            found = await call(act.LOOK_AT_REPLICAS, request, summary="look at all replicas")
        except ActivityError as error:
            workflow.logger.warning("the look at the replicas: %s", explain(error)[1])
            return False
        for node in found.nodes:
            if self.job.state.node_versions.get(node.name) == versions.get(node.name):
                self.nodes.see(node)
        for (replica, incarnation, version), view in zip(asked, found.replicas, strict=True):
            if replica.run.live and (replica.incarnation, replica.run.view_version) == (incarnation, version):
                replica.run.see(view, version)
            replica.retry.failures = 0
        self.reported_progress.take_all(request, found)
        self.stalls.looked()
        return True
