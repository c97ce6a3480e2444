"""The Job of one incarnation: created for its place, and deleted when another follows."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import events
    from api.names import place_label
    from api.views import ReplicaView

from workflows.common.calls import call, superseded_by
from workflows.job.core.incarnations import to_create
from workflows.job.replica.life import Part


class Incarnation(Part):
    """Creates and deletes the Jobs of one replica's incarnations."""

    async def create(self) -> ReplicaView:
        """Create the Job, or find the one that exists.

        If a person has reset the workflow, that is the Job of a later incarnation, which is taken over.

        Raises:
            ActivityError: The Job could not be created.
        """
        try:
            view = await self._create()
        except ActivityError as error:
            later = superseded_by(error)
            if later is None:
                raise
            view = await self._take_over(later)
        if self.me.run.view is None:
            self.me.run.view = view
        return view

    async def _take_over(self, later: int) -> ReplicaView:
        """Go on with a later incarnation: a person has reset the workflow to a time before it was begun."""
        self.job.event(
            events.TAKEN_OVER, f"replica {self.me.index} continues with its incarnation {later}", warning=True
        )
        self.me.incarnation, self.me.run.view, self.me.run.view_version = later, None, 0
        return await self._create()

    async def _create(self) -> ReplicaView:
        nodes = self.me.place.nodes or self.me.place.candidates
        if self.me.run.pinned:
            return await self._create_pinned()
        bought = self.me.place.bought
        return await self._ask_for(self._request(nodes, bought=bought), ", ".join(nodes))

    async def _create_pinned(self) -> ReplicaView:
        """Create a Job before its machine exists: for a node that is free now, or for one that is bought later."""
        nodes, hold = self.me.place.candidates, self.state.hold
        pinning = {
            "place": place_label(self.job.start.job_id, self.me.index, self.me.incarnation),
            "suspended": self.me.run.held or hold is None or hold.suspends,
            "labels": hold.labels if hold else {},
        }
        request = self._request(nodes, bought=False).model_copy(update=pinning)
        return await self._ask_for(request, " or ".join([*nodes[:3], "a machine that is still to be bought"]))

    def _request(self, nodes: list[str], *, bought: bool) -> act.CreateReplica:
        me = self.me
        return to_create(self.job, me.index, me.incarnation, nodes=nodes, bought=bought, restore=me.run.restore)

    async def _ask_for(self, request: act.CreateReplica, place: str) -> ReplicaView:
        came_from = self.me.run.restore.label if self.me.run.restore else "the training image"
        return await call(act.CREATE_REPLICA, request, summary=f"{self.life.job_name} on {place} from {came_from}")

    async def delete_predecessors(self) -> None:
        """Save the rest of the predecessors' logs, delete their Jobs, and release their machines."""
        recovery = self.me.recovery
        for old in recovery.olds if recovery else []:
            if not old.logs_saved and not self.nodes.dead(old):
                await self.life.save_logs(old.incarnation)
            stop = act.StopReplica(ref=self.life.ref(old.incarnation), delete_job=True, force=self.nodes.dead(old))
            await call(act.STOP_REPLICA, stop, summary=f"delete Job of incarnation {old.incarnation}")
            await self.machines.release_each(old.vm_keys, "Replaced")
        if recovery:
            recovery.olds = []

    async def delete(self, cause: str) -> None:
        """Delete the Job of the present incarnation. ``cause`` is shown in the Web UI."""
        stop = act.StopReplica(ref=self.life.ref(), delete_job=True)
        await call(act.STOP_REPLICA, stop, summary=f"delete {self.life.job_name}: {cause}")
