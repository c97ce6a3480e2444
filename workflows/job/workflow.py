"""The job: one long workflow for each SpotInstanceJob, which keeps its replicas training until they are done.

Signal handlers record facts. Coroutines act on them: one for each replica, one for each checkpoint, one that writes the
status. ``run`` supervises them: from the spec and the replicas' ends it decides what each replica is to do.

The workflow never fails. The failure of an activity becomes a condition and a back-off. Any other failure fails the
workflow *task*, which is retried until a corrected worker succeeds.
"""

from collections.abc import Awaitable, Callable

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import conditions, names, reasons
    from api.messages import (
        CheckpointChanged,
        JobStart,
        NodeChanged,
        ReplicaChanged,
        RequestChanged,
        Shutdown,
        SpecChanged,
        VmReport,
    )
    from api.spot_instance_job import SpotInstanceJobStatus
    from workflows.job.policy.status import job_status

from api.phases import TERMINAL
from workflows.common.calls import call, explain
from workflows.common.cancellation import outlive_cancel
from workflows.common.continue_as_new import go_on, is_long, is_time_to_go_on
from workflows.common.handlers import drop_misfits
from workflows.common.patches import patched
from workflows.job.acceptance import Acceptance
from workflows.job.checkpoints.checkpoints import Checkpoints
from workflows.job.checkpoints.published import Published
from workflows.job.core.job import Job
from workflows.job.deadline import Deadline
from workflows.job.disruption_budget import DisruptionBudget
from workflows.job.last_words import LastWords
from workflows.job.looks import Looks
from workflows.job.machines.growth import Growth
from workflows.job.machines.machines import Machines
from workflows.job.machines.nodes import Nodes
from workflows.job.machines.spot_return import SpotReturns
from workflows.job.replica.replica import ReplicaLife
from workflows.job.requests.handlers import RequestHandlers
from workflows.job.requests.requests import Requests
from workflows.job.stalls import Stalls
from workflows.job.state.job import JobState
from workflows.job.status_writer import StatusWriter
from workflows.job.supervisor import Supervisor
from workflows.job.teardown import Teardown


@workflow.defn(name=names.JOB_WORKFLOW)
class SpotInstanceJob(RequestHandlers):
    """The workflow of one job: it finds or buys GPUs, runs the replicas, checkpoints and recovers them."""

    @workflow.init
    def __init__(self, start: JobStart) -> None:
        """Begin a job, or continue that of the run before."""
        self.job = Job(start, JobState.model_validate(start.state or {}))
        self.checkpoints = Checkpoints(self.job)
        self.nodes = Nodes(self.job)
        self.requests = Requests(self.job, self.nodes)
        self.machines = Machines(self.job, self.nodes)
        self.supervisor = Supervisor(self.job, self.checkpoints, self.machines)
        retention = self.checkpoints.backups.retention
        self.status_writer = StatusWriter(self.job, lambda: retention.is_pinning)
        self.alive: set[int] = set()  # the replicas whose coroutine runs

    @workflow.query(description="The job's status, as in the SpotInstanceJob.")
    def status(self) -> SpotInstanceJobStatus:
        """Return what ``kubectl get -o yaml`` shows, without asking the API server."""
        return job_status(self.job.start, self.job.state, workflow.now())

    # --- what the bridge and the VMs report

    @workflow.signal(description="From the bridge: the SpotInstanceJob or what it names was edited.")
    @drop_misfits
    def spec_changed(self, message: SpecChanged) -> None:
        """Read the documents again, unless this version has been read. Other jobs of the same name are ignored."""
        state, heard = self.job.state, (message.generation, message.vm_generation)
        if message.uid == self.job.start.uid and (heard[0] > state.heard[0] or heard[1] > state.heard[1]):
            state.heard = (max(heard[0], state.heard[0]), max(heard[1], state.heard[1]))
            state.reread = True
            self.job.touch()

    @workflow.signal(description="From the bridge: the request annotation of the SpotInstanceJob changed.")
    @drop_misfits
    def request_changed(self, message: RequestChanged) -> None:
        """Read it with the object."""
        if message.uid == self.job.start.uid and patched("request-annotation"):
            self.job.state.reread = True
            self.job.touch()

    @workflow.signal(description="From the bridge: the SpotInstanceJob is being deleted.")
    @drop_misfits
    def shutdown(self, message: Shutdown) -> None:
        """Tear everything down. Other jobs of the same name are ignored."""
        if message.uid == self.job.start.uid:
            self._shut_down(message.reason)

    @workflow.signal(description="From the bridge: a replica's Job or pod changed.")
    @drop_misfits
    def replica_changed(self, message: ReplicaChanged) -> None:
        """Take in a new version of a Job and its pod. Older versions and those of other jobs are ignored."""
        replica = self.job.state.replicas.get(message.replica)
        if replica is None or message.job_id != self.job.start.job_id:
            return
        if (
            replica.run.live
            and message.incarnation == replica.incarnation
            and message.version > replica.run.view_version
        ):
            replica.run.see(message.view, message.version)
        for old in replica.recovery.olds if replica.recovery else []:
            if old.incarnation == message.incarnation:
                self.nodes.old_changed(replica, old, message.view)

    @workflow.signal(description="From the bridge: a CheckpointBackup's phase changed.")
    @drop_misfits
    def checkpoint_changed(self, message: CheckpointChanged) -> None:
        """Take in a new version of a CheckpointBackup. Older versions and those of other jobs are ignored."""
        if message.job_id == self.job.start.job_id:
            self.checkpoints.backups.changed(message.version, message.view)

    @workflow.signal(description="From the bridge: a node with a replica on it changed.")
    @drop_misfits
    def node_changed(self, message: NodeChanged) -> None:
        """Take in a new version of a Node. Older versions are ignored."""
        self.nodes.changed(message.version, message.view)

    @workflow.signal(description="From a VM's workflow: how the VM is.")
    @drop_misfits
    def vm_changed(self, message: VmReport) -> None:
        """Take in a VM report. Older reports are ignored."""
        self.machines.changed(message)
        if message.stage == "Gone":  # the market knows it already, so its loss rates have changed
            self.checkpoints.schedule.doubt()
        self.job.touch()

    # --- the job's life

    @workflow.run
    async def run(self, start: JobStart) -> str:
        """Live until the training is done or the job is deleted, and return the reason of the end.

        A cancel is a shutdown.
        """
        return await outlive_cancel(self._life(), lambda: self._shut_down(reasons.CANCELLED))

    async def _life(self) -> str:
        self.job.start_clock()
        self.job.spawn(self.status_writer.run(), "status")
        self.job.spawn(Acceptance(self.job, self.checkpoints, self.requests).run(), "acceptance")
        self.job.spawn(self.checkpoints.run(), "checkpoint timer")
        self.job.spawn(SpotReturns(self.job, self.checkpoints, self.machines).run(), "spot return")
        self.job.spawn(Growth(self.job, self.machines).run(), "growth")
        self.job.spawn(Published(self.job).run(), "published checkpoints")
        self.job.spawn(Deadline(self.job).run(), "deadline")
        self.job.spawn(DisruptionBudget(self.job, self.checkpoints).run(), "disruption budget")
        reported_progress = self.checkpoints.backups.reported_progress
        stalls = Stalls(self.job, reported_progress)
        self.job.spawn(stalls.run(), "stalls")
        self.job.spawn(Looks(self.job, self.nodes, reported_progress, stalls).run(), "looks")
        while not self._over():
            await self._turn()
            if self.job.parking:
                await self._continue_as_new()
        self.supervisor.direct()  # once more, because the status still shows what ended in the last turn as under way
        self.requests.settle()
        return await self._end()

    async def _turn(self) -> None:
        """Decide what the replicas are to do, start their coroutines, and wait for something to change."""
        self.supervisor.direct()
        self.requests.settle()
        for index, replica in self.job.state.replicas.items():
            if index not in self.alive and replica.phase not in TERMINAL:
                self.alive.add(index)
                self.job.spawn(self._live(index), f"replica {index}")
        if not self._over():
            await workflow.wait_condition(
                lambda: self.job.changed or self.job.crash is not None or self._is_time_to_go_on()
            )
        self.job.changed = False
        self._raise_crash()
        self.job.parking = self.job.parking or self._is_time_to_go_on()

    def _is_time_to_go_on(self) -> bool:
        recovering = any(replica.recovery for replica in self.job.state.replicas.values())
        return is_time_to_go_on(recovering=recovering)

    def _raise_crash(self) -> None:
        if self.job.crash is not None:
            # A FailureError would fail the workflow. This fails the task until a worker has the fix.
            raise RuntimeError(f"a coroutine of {self.job.start.name} raised") from self.job.crash

    async def _live(self, index: int) -> None:
        try:
            await ReplicaLife(self.job, self.checkpoints, self.machines, self.job.state.replicas[index]).run()
        finally:
            self.alive.discard(index)
            self.job.touch()

    def _over(self) -> bool:
        """True if the job ends and no replica lives any more."""
        state = self.job.state
        done = all(replica.phase in TERMINAL for replica in state.replicas.values())
        known = state.spec is not None or state.unreadable  # a teardown begins by reading what to tear down
        return self.job.ending and known and done and not self.alive

    def _shut_down(self, reason: str) -> None:
        self.job.state.shutdown = self.job.state.shutdown or reason
        self.job.touch()

    async def _continue_as_new(self) -> None:
        """Continue as new once no activity or handler is pending. The next run continues from the state."""
        await workflow.wait_condition(lambda: not self.job.busy and workflow.all_handlers_finished())
        self.job.stop_clock()
        self._raise_crash()
        go_on(self.job.start, self.job.state)

    async def _end(self) -> str:
        """Tear down what is left, write the last reports, release the objects, and return the reason of the end."""
        self.job.parking = True  # the coroutines that still wait end by themselves
        await workflow.wait_condition(lambda: not self.job.busy)
        self.job.stop_clock()
        self._raise_crash()
        await self._see_through(self._tear_down)
        await LastWords(self.job, self.status_writer).say()
        await self._see_through(self._release_finalizers)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.job.state.end

    async def _see_through(self, step: Callable[[], Awaitable[bool]]) -> None:
        """Repeat a step of the end until it is done, over as many runs as that takes."""
        while not await step():
            if is_long():
                await self._continue_as_new()

    async def _tear_down(self) -> bool:
        try:
            return await Teardown(self.job, self.machines, self.status_writer).run()
        except ActivityError as error:
            self.job.condition(conditions.TORN_DOWN, False, *explain(error))
            await self.status_writer.flush()
            await workflow.sleep(self.job.state.timings.retry)
            return False

    async def _release_finalizers(self) -> bool:
        spec, vm_spec = self.job.state.spec, self.job.state.vm_spec
        secrets = (
            [spec.gcp_credentials_secret_ref, spec.checkpoint_config.checkpoint_repo_credential_ref] if spec else []
        )
        request = act.ReleaseFinalizers(
            job=self.job.ref,
            vm_name=spec.spot_instance_vm_ref.name if spec and vm_spec else None,
            secrets=[secret for secret in secrets if secret],
        )
        try:
            await call(act.RELEASE_FINALIZERS, request, summary="remove the finalizers")
        except ActivityError as error:
            workflow.logger.warning("finalizers: %s", explain(error)[1])
            await workflow.sleep(self.job.state.timings.retry)
            return False
        return True
