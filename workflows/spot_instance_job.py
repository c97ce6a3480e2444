"""The job: one long-running workflow per SpotInstanceJob, which keeps its replicas training until they are done.

Signal handlers record facts, coroutines act on them (one a replica, one a checkpoint, one writer of the status), and
``run`` supervises: it turns the spec and the replicas' ends into orders. The workflow never fails: an activity's
failure becomes a condition and a back-off; anything else fails the workflow *task*, which a fixed worker heals.
"""

from collections.abc import Awaitable, Callable

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import names
    from api.messages import (
        CheckpointChanged,
        JobStart,
        NodeChanged,
        PreemptionNotice,
        ReplicaChanged,
        Resize,
        Shutdown,
        SpecChanged,
        VmReport,
    )
    from api.spot_instance_job import SpotInstanceJobStatus
    from workflows.policy.status import job_status

from workflows.admission import Admission
from workflows.budget import Budget
from workflows.calls import call, explain
from workflows.cancelling import outlive_cancel
from workflows.checkpointing import Checkpointing
from workflows.deadline import Deadline
from workflows.directing import Directing
from workflows.history import go_on, is_long, is_time_to_go_on
from workflows.job import Job
from workflows.last_words import LastWords
from workflows.machines import Machines
from workflows.nodes import Nodes
from workflows.published import Published
from workflows.replica import ReplicaLife
from workflows.reporting import Reporting
from workflows.rescue import Rescue
from workflows.returning import Returning
from workflows.stalls import Stalls
from workflows.state import TERMINAL, JobState
from workflows.teardown import Teardown


@workflow.defn(name=names.JOB_WORKFLOW)
class SpotInstanceJob:
    """Find or buy GPUs, run the replicas, checkpoint, recover, until the training is done and nothing is left."""

    @workflow.init
    def __init__(self, start: JobStart) -> None:
        """Begin a job, or go on with one after continue-as-new."""
        self.job = Job(start, JobState.model_validate(start.state or {}))
        self.checkpointing = Checkpointing(self.job)
        self.checkpointing.following.on_failure = Rescue(self.job, self.checkpointing).ask_again
        self.nodes = Nodes(self.job)
        self.machines = Machines(self.job, self.nodes)
        self.directing = Directing(self.job, self.checkpointing, self.machines)
        self.reporting = Reporting(self.job)
        self.alive: set[int] = set()  # replicas whose coroutine runs

    # --- what people may send

    @workflow.signal(description="Checkpoint, then let go of all VMs until resumed. No input.")
    def suspend(self) -> None:
        """As ``spec.suspend: true``, which it becomes."""
        self.job.wish(act.PatchSpec(job=self.job.ref, suspend=True))

    @workflow.signal(description="Go on from the furthest checkpoint. No input.")
    def resume(self) -> None:
        """As ``spec.suspend: false``, which it becomes."""
        self.job.wish(act.PatchSpec(job=self.job.ref, suspend=False))

    @workflow.signal(description='Another number of replicas: {"replicas": 3}')
    def resize(self, message: Resize) -> None:
        """As ``kubectl scale``."""
        self.job.wish(act.PatchSpec(job=self.job.ref, replicas=message.replicas))

    @workflow.signal(description="Checkpoint the furthest replica now. No input.")
    def checkpoint_now(self) -> None:
        """Beside the schedule, which starts over."""
        self.job.state.checkpoint_wanted = True
        self.job.touch()

    @workflow.signal(description='A machine is about to go: {"node": "<name>"} or {"replica": 0}, "seconds": 120')
    def preemption_notice(self, message: PreemptionNotice) -> None:
        """The second notice for the same machine changes nothing."""
        replica = self.job.state.replicas.get(message.replica) if message.replica is not None else None
        node = message.node or (self.nodes.node_of(replica) if replica else None)
        if node is not None and names.is_segment(node):  # anything else is no node
            self.nodes.notice(node, message.source, told=message.seconds, began=message.at)

    @workflow.query(description="The job's status, as in the SpotInstanceJob.")
    def status(self) -> SpotInstanceJobStatus:
        """The same that ``kubectl get -o yaml`` shows, without the API server between."""
        return job_status(self.job.start, self.job.state, workflow.now())

    # --- what the bridge tells

    @workflow.signal(description="From the bridge: the SpotInstanceJob or what it names was edited.")
    def spec_changed(self, message: SpecChanged) -> None:
        """Read again."""
        state, heard = self.job.state, (message.generation, message.vm_generation)
        if message.uid == self.job.start.uid and (heard[0] > state.heard[0] or heard[1] > state.heard[1]):
            state.heard = (max(heard[0], state.heard[0]), max(heard[1], state.heard[1]))
            state.reread = True
            self.job.touch()

    @workflow.signal(description="From the bridge: the SpotInstanceJob is being deleted.")
    def shutdown(self, message: Shutdown) -> None:
        """Tear everything down."""
        if message.uid == self.job.start.uid:
            self._shut_down(message.reason)

    @workflow.signal(description="From the bridge: a replica's Job or pod changed.")
    def replica_changed(self, message: ReplicaChanged) -> None:
        """Older versions and other jobs' are dropped."""
        replica = self.job.state.replicas.get(message.replica)
        if replica is None or message.job_id != self.job.start.job_id:
            return
        if replica.live and message.incarnation == replica.incarnation and message.version > replica.view_version:
            replica.see(message.view, message.version)
        for old in replica.recovery.olds if replica.recovery else []:
            if old.incarnation == message.incarnation:
                old.view = message.view

    @workflow.signal(description="From the bridge: a CheckpointBackup's phase changed.")
    def checkpoint_changed(self, message: CheckpointChanged) -> None:
        """Older versions and other jobs' are dropped."""
        if message.job_id == self.job.start.job_id:
            self.checkpointing.following.changed(message.version, message.view)

    @workflow.signal(description="From the bridge: a node with a replica on it changed.")
    def node_changed(self, message: NodeChanged) -> None:
        """Older versions are dropped."""
        state, name = self.job.state, message.view.name
        if message.version > state.node_versions.get(name, 0):
            state.node_versions[name] = message.version
            self.nodes.see(message.view)

    @workflow.signal(description="From a VM's workflow: how the VM is.")
    def vm_changed(self, message: VmReport) -> None:
        """Older reports are dropped."""
        self.machines.changed(message)
        if message.stage == "Gone":  # the market was told before us
            self.checkpointing.pacing.doubt()
        self.job.touch()

    # --- the job's life

    @workflow.run
    async def run(self, start: JobStart) -> str:
        """Live until the training is done or the job deleted; gives the reason of the end. A cancel is a shutdown."""
        return await outlive_cancel(self._life(), lambda: self._shut_down("Cancelled"))

    async def _life(self) -> str:
        self.job.spawn(self.reporting.run(), "status")
        self.job.spawn(Admission(self.job, self.checkpointing).run(), "admission")
        self.job.spawn(self.checkpointing.run(), "checkpoint timer")
        self.job.spawn(Returning(self.job, self.checkpointing, self.machines).run(), "back to spot")
        self.job.spawn(Published(self.job).run(), "published checkpoints")
        self.job.spawn(Deadline(self.job).run(), "deadline")
        self.job.spawn(Budget(self.job, self.checkpointing).run(), "disruption budget")
        self.job.spawn(Stalls(self.job, self.checkpointing.following.readings).run(), "trainings that stand still")
        while not self._over():
            await self._turn()
            if self.job.parking:
                await self._continue_as_new()
        self.directing.direct()  # once more: what ended in the last turn is still told as under way
        return await self._end()

    async def _turn(self) -> None:
        """One round of supervision: give orders, start coroutines, wait for something to change."""
        self.directing.direct()
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
            # Not a FailureError: those would fail the workflow, this fails the task until a worker has the fix.
            raise RuntimeError(f"a coroutine of {self.job.start.name} raised") from self.job.crash

    async def _live(self, index: int) -> None:
        try:
            await ReplicaLife(self.job, self.checkpointing, self.machines, self.job.state.replicas[index]).run()
        finally:
            self.alive.discard(index)
            self.job.touch()

    def _over(self) -> bool:
        """Nobody lives any more, and nobody is meant to."""
        state = self.job.state
        done = all(replica.phase in TERMINAL for replica in state.replicas.values())
        known = state.spec is not None or state.unreadable  # a teardown begins with reading what there is to tear down
        return self.job.ending and known and done and not self.alive

    def _shut_down(self, reason: str) -> None:
        self.job.state.shutdown = self.job.state.shutdown or reason
        self.job.touch()

    async def _continue_as_new(self) -> None:
        """With no activity, message or handler pending; what was under way goes on from the state."""
        await workflow.wait_condition(lambda: not self.job.busy and workflow.all_handlers_finished())
        self._raise_crash()
        go_on(self.job.start, self.job.state)

    async def _end(self) -> str:
        """Clean up what is left, tell people, and as the last act let the objects go."""
        self.job.parking = True  # the coroutines that still wait end themselves
        await workflow.wait_condition(lambda: not self.job.busy)
        self._raise_crash()
        await self._see_through(self._tear_down)
        await LastWords(self.job, self.reporting).say()
        await self._see_through(self._release_finalizers)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.job.state.shutdown or self.job.state.outcome or "Deleted"

    async def _see_through(self, step: Callable[[], Awaitable[bool]]) -> None:
        """Take a step of the end until it is done, however many runs that takes."""
        while not await step():
            if is_long():
                await self._continue_as_new()

    async def _tear_down(self) -> bool:
        try:
            return await Teardown(self.job, self.machines, self.reporting).run()
        except ActivityError as error:
            self.job.condition("TornDown", False, *explain(error))
            await self.reporting.flush()
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
