"""The Job of one incarnation: created for its place, and deleted when another follows."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.names import place_label
    from api.views import ReplicaView

from workflows.calls import call, superseded_by
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
        """A person has reset the workflow to before this incarnation was begun."""
        self.job.event("TakenOver", f"replica {self.me.index} goes on with its incarnation {later}", warning=True)
        self.me.incarnation, self.me.view, self.me.view_version = later, None, 0
        return await self._create()

    async def _create(self) -> ReplicaView:
        nodes = [self.me.node] if self.me.node else self.me.candidates
        where = ", ".join(nodes)
        place, labels, suspended = None, {}, False
        if self.me.pinned:
            suspended = self.me.held or self.state.hold is None or self.state.hold.suspends
            place = place_label(self.job.start.job_id, self.me.index, self.me.incarnation)
            labels = self.state.hold.labels if self.state.hold else {}
            nodes = self.me.candidates
            where = " or ".join([*nodes[:3], "a machine to come"])
        config = self.job.spec.checkpoint_config
        request = act.CreateReplica(
            job=self.job.ref,
            job_template=self.job.spec.job_template,
            replica=self.me.index,
            incarnation=self.me.incarnation,
            nodes=nodes,
            bought=self.me.vm_key is not None and not self.me.pinned,
            place=place,
            suspended=suspended,
            labels=labels,
            restore=self.me.restore,
            image_pull=config.checkpoint_repo_credential_ref,
            checkpoint_image_repo=config.checkpoint_image_repo,
            cloud_credentials=self.job.spec.gcp_credentials_secret_ref,
            storage=config.checkpoint_storage,
        )
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
