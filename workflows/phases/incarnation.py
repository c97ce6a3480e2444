"""The Job of one incarnation: created for its place, and deleted when another follows."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.names import place_label
    from api.views import ReplicaView

from workflows.calls import call, superseded_by
from workflows.incarnations import to_create
from workflows.phases.life import Part


class Incarnation(Part):
    """The present incarnation's Job, and those of its predecessors."""

    async def create(self) -> ReplicaView:
        """Create the Job, or find it; if a person has reset the workflow, that of the later incarnation.

        Raises:
            ActivityError: it could not be created.
        """
        try:
            view = await self._create()
        except ActivityError as error:
            later = superseded_by(error)
            if later is None:
                raise
            view = await self._take_over(later)
        if self.me.view is None:
            self.me.view = view
        return view

    async def _take_over(self, later: int) -> ReplicaView:
        """Go on with a later incarnation: a person has reset the workflow to before it was begun."""
        self.job.event("TakenOver", f"replica {self.me.index} goes on with its incarnation {later}", warning=True)
        self.me.incarnation, self.me.view, self.me.view_version = later, None, 0
        return await self._create()

    async def _create(self) -> ReplicaView:
        nodes = [self.me.node] if self.me.node else self.me.candidates
        if self.me.pinned:
            return await self._create_pinned()
        bought = self.me.vm_key is not None
        return await self._ask_for(self._request(nodes, bought=bought), ", ".join(nodes))

    async def _create_pinned(self) -> ReplicaView:
        """Create a Job that comes before its machine: for a node that is free now, or for one to come."""
        nodes, hold = self.me.candidates, self.state.hold
        held = {
            "place": place_label(self.job.start.job_id, self.me.index, self.me.incarnation),
            "suspended": self.me.held or hold is None or hold.suspends,
            "labels": hold.labels if hold else {},
        }
        request = self._request(nodes, bought=False).model_copy(update=held)
        return await self._ask_for(request, " or ".join([*nodes[:3], "a machine to come"]))

    def _request(self, nodes: list[str], *, bought: bool) -> act.CreateReplica:
        me = self.me
        return to_create(self.job, me.index, me.incarnation, nodes=nodes, bought=bought, restore=me.restore)

    async def _ask_for(self, request: act.CreateReplica, where: str) -> ReplicaView:
        came_from = self.me.restore.label if self.me.restore else "the original image"
        return await call(act.CREATE_REPLICA, request, summary=f"{self.life.job_name} on {where} from {came_from}")

    async def delete_predecessors(self) -> None:
        """Save what is left of their logs, delete their Jobs, and let go of their machines."""
        recovery = self.me.recovery
        for old in recovery.olds if recovery else []:
            if not old.logs_saved and not self.nodes.dead(old):
                await self.life.save_logs(old.incarnation)
            stop = act.StopReplica(ref=self.life.ref(old.incarnation), delete_job=True, force=self.nodes.dead(old))
            await call(act.STOP_REPLICA, stop, summary=f"delete Job of incarnation {old.incarnation}")
            await self.machines.release(old.vm_key, "Replaced")
        if recovery:
            recovery.olds = []

    async def delete(self, cause: str) -> None:
        """Delete the present one's Job."""
        stop = act.StopReplica(ref=self.life.ref(), delete_job=True)
        await call(act.STOP_REPLICA, stop, summary=f"delete {self.life.job_name}: {cause}")
