"""One replica's life: a coroutine that goes from phase to phase and can begin in any of them.

Each phase is a step over the state: taken again after a failure, a restart of the worker or continue-as-new it goes
on, because what it did before is in the state and what it asks of the world is idempotent. A step that fails becomes
a condition, a back-off and the same step again.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.names import replica_job_name, vm_key
    from api.views import PodView
    from workflows.calls import call, explain
    from workflows.checkpointing import Checkpointing
    from workflows.job import Job
    from workflows.machines import Machines
    from workflows.policy.backoff import back_off
    from workflows.policy.startup import does_not_start, startup, waits_for_others
    from workflows.policy.survivor import going
    from workflows.policy.verdict import verdict
    from workflows.restoring import Restoring
    from workflows.state import TERMINAL, Old, Phase, Recovery, Replica

MAX_CHECKPOINT_TRIES = 2
POLL_SECONDS = 3.0


class HaltedError(Exception):
    """The replica is to let go of what it has; raised by its waits."""


class ReplicaLife:
    """The coroutine of one replica."""

    def __init__(self, job: Job, checkpointing: Checkpointing, machines: Machines, me: Replica) -> None:
        self.job = job
        self.state = job.state
        self.checkpointing = checkpointing
        self.machines = machines
        self.me = me
        self.restoring = Restoring(job)
        self.steps: dict[Phase, Callable[[], Awaitable[None]]] = {
            "Pending": self.seek,
            "Preempted": self.seek,
            "Provisioning": self.await_machine,
            "Joining": self.await_machine,
            "NodeReady": self.node_ready,
            "Restoring": self.restore,
            "Starting": self.start,
            "Running": self.train,
            "Judging": self.judge,
            "Releasing": self.release,
        }

    async def run(self) -> None:
        """Go from phase to phase until a terminal one, or until the job parks."""
        while self.me.phase not in TERMINAL and not self.job.parking:
            if self._halted():
                self.me.retry_at, self.me.failures = None, 0
                self.enter("Releasing", f"lets go: {self.me.halt}")
            try:
                await self._rest()
                if not self.job.parking:
                    await self.steps[self.me.phase]()
            except HaltedError:
                continue
            except ActivityError as error:
                self._failed(error)

    # --- a place to run

    async def seek(self) -> None:
        """A free GPU of the cluster before any VM is bought."""
        # Beside the search: a dying node may hold its log back until it is dead.
        self.job.spawn(self._save_old_logs(), f"logs of replica {self.me.index}")
        request = act.FindCapacity(
            job=self.job.ref, job_template=self.job.spec.job_template, avoid=self._nodes_to_avoid()
        )
        capacity = await call(act.FIND_CAPACITY, request, summary=f"replica {self.me.index}: a free GPU?")
        if self._halted():
            return
        if capacity.nodes:
            self.me.candidates = capacity.nodes
            self.enter("NodeReady", f"room on {', '.join(capacity.nodes[:3])}")
            return
        self._buy(capacity.reason)

    def _nodes_to_avoid(self) -> list[str]:
        others = [replica.node for replica in self.state.replicas.values() if replica is not self.me]
        noticed = list(self.state.notices)
        return sorted({node for node in [*others, *noticed, *self.me.avoid] if node})

    def _buy(self, why: str) -> None:
        self.me.place += 1
        self.me.vm_key = vm_key(self.job.start.job_id, self.me.index, self.me.place)
        self.me.candidates = []
        self.machines.wanted(self.me.vm_key, self.me.index)
        self.enter("Provisioning", why or "no free GPU in the cluster")
        self.job.event("BuyingVM", f"replica {self.me.index}: {self.me.message}")

    async def await_machine(self) -> None:
        """Ensure the VM and wait for its Node; a VM that is lost on the way is replaced by the next."""
        key = self.me.vm_key or ""
        vm = self.state.vms.get(key)
        if vm is None or not await self.machines.ensure(key):
            self._machine_failed("the VM's life is over")
            return
        while not self.job.parking:
            report = vm.report
            if report is not None and self.machines.failed(key):
                self.machines.noticed(key, "its node was announced to go")
                self._machine_failed(f"{report.reason}: {report.message}")
                return
            if report is not None and report.stage == "Ready":
                self.me.node, self.me.failures = report.node_name, 0
                self.job.condition("CapacityAvailable", True, "Provisioned")
                self.enter("NodeReady", f"{report.node_name} is Ready")
                return
            self._mirror()
            number = report.number if report else 0
            changed = await self.until(
                lambda seen=number: (  # type: ignore[misc]
                    self.machines.failed(key) or (vm.report is not None and vm.report.number != seen)
                ),
                self.job.after(self.state.timings.resync),
                f"replica {self.me.index}: {self.me.message or 'the VM'}",
            )
            if not changed:
                await self.machines.ensure(key)

    def _mirror(self) -> None:
        """The VM's stage is the replica's phase, and its trouble the job's condition."""
        vm = self.state.vms.get(self.me.vm_key or "")
        report = vm.report if vm else None
        if report is None:
            return
        phase: Phase = "Joining" if report.stage in {"Joining", "Registering"} else "Provisioning"
        text = f"{report.reason}: {report.message}" if report.reason else report.message
        if (phase, text) != (self.me.phase, self.me.message):
            self.enter(phase, text)
        if report.stage == "Creating" and report.reason:
            self.job.condition("CapacityAvailable", False, report.reason, report.message)

    def _machine_failed(self, message: str) -> None:
        self.me.vm_key = None
        self.job.event("VMLost", f"replica {self.me.index}: {message}", warning=True)
        self._back_off(message)
        self.enter("Preempted" if self.me.recovery else "Pending", message)

    async def node_ready(self) -> None:
        """Where it runs is settled; now from what."""
        if self.me.recovery and self.me.recovery.node_ready_at is None:
            self.me.recovery.node_ready_at = workflow.now()
        self.enter("Restoring")

    # --- something to start from

    async def restore(self) -> None:
        """Wait for the survivor's checkpoint and for the predecessor's end; then the furthest point *then*."""
        recovery = self.me.recovery
        if recovery is not None:
            await self._await_checkpoint(recovery)
            await self._await_old_end(recovery)
        if self.job.parking or self._lost_place():
            return
        choice = await self.restoring.choose(self.me)
        if choice is None:
            await self._hold()
            return
        if self._lost_place():
            return
        self.me.restore, why = choice
        self.me.incarnation += 1
        self.me.live = True
        self.me.base_seconds = self.me.restore.seconds if self.me.restore else 0
        self.me.running_since = self.me.reading = self.me.reading_at = None
        self.me.view, self.me.view_version, self.me.stalled = None, 0, False
        self.enter("Starting", why)

    async def _await_checkpoint(self, recovery: Recovery) -> None:
        while not self.job.parking and not self._machine_lost():
            if recovery.checkpoint is not None:
                self._say(f"waits for checkpoint {recovery.checkpoint}")
            # A checkpoint has deadlines of its own; this one only says that silence is not waited for without end.
            await self.until(
                lambda: self.checkpointing.settled(recovery) or self._machine_lost(),
                self.job.after(self.state.timings.checkpoint_total),
                f"replica {self.me.index}: {self.me.message}",
            )
            again = self.checkpointing.failed(recovery) and recovery.checkpoint_tries < MAX_CHECKPOINT_TRIES
            if not again or self.checkpointing.source() is None:
                return
            recovery.checkpoint = None
            self.checkpointing.for_recovery(recovery)

    async def _await_old_end(self, recovery: Recovery) -> None:
        """No two of one replica: the old pod is confirmed stopped, or its machine gone, before the new one starts."""
        for old in recovery.olds:
            while not old.stopped and not self.job.parking and not self._machine_lost():
                self._say(f"waits for incarnation {old.incarnation} on {old.node or 'no node'} to have stopped")
                await self.until(
                    lambda one=old: self.machines.stopped(one) or self._machine_lost(),  # type: ignore[misc]
                    self.job.after(POLL_SECONDS),
                    f"replica {self.me.index}: {self.me.message}",
                )
                if not self.machines.stopped(old):
                    old.view = await call(act.OBSERVE_REPLICA, self._ref(old.incarnation), summary=self.me.message)
                if self.machines.stopped(old):
                    old.stopped = True
                elif workflow.now() >= recovery.noticed_at + timedelta(seconds=self.state.timings.pod_stop):
                    await self._stop_old(old)

    async def _stop_old(self, old: Old) -> None:
        """It was announced to go and did not: a rehearsal, or a notice that came to nothing. Stop it ourselves."""
        if not old.asked_to_stop:
            await self._save_logs(old.incarnation)
            self.job.event(
                "StopsPredecessor",
                f"replica {self.me.index}: incarnation {old.incarnation} still runs on {old.node}",
                warning=True,
            )
            old.asked_to_stop = True
        stop = act.StopReplica(ref=self._ref(old.incarnation), delete_job=False)
        old.view = await call(act.STOP_REPLICA, stop, summary=f"stop incarnation {old.incarnation}")
        await self.machines.release(old.vm_key, "Preempted")

    async def _hold(self) -> None:
        """Nothing to start from though there was something once: a person decides, or a sibling's image comes."""
        config = self.job.spec.checkpoint_config
        self._say(self.restoring.held())
        await self.until(
            lambda: self.restoring.usable_point() or self.job.spec.checkpoint_config != config or self._machine_lost(),
            self.job.after(self.state.timings.resync),
            f"replica {self.me.index}: {self.me.message}",
        )
        self._lost_place()

    # --- running

    async def start(self) -> None:
        """Create the Job, delete the predecessor's, and wait for the pod to run."""
        await self._create_job()
        if self.me.deadline is None:
            bought = self.me.vm_key is not None
            timings = self.state.timings
            self.me.deadline = self.job.after(timings.startup_deadline if bought else timings.schedule_wait)
        await self._delete_old_jobs()
        while not self.job.parking:
            pod = self.me.view.pod if self.me.view else None
            self._see_place(pod)
            if self._lost_place():
                return
            match startup(pod, restored=self.me.restore is not None):
                case "Running" | "Ended":
                    self._started(pod)
                    return
                case "BadImage" | "MissingImage" as trouble:
                    await self._image_failed(trouble, pod)
                    return
                case "NeverRan":
                    await self._never_ran("its pod ended before it ran")
                    return
            if pod is None and self.me.view and (self.me.view.job_failed or not self.me.view.job_exists):
                await self._never_ran("its pod was deleted")
                return
            if workflow.now() >= self.me.deadline:
                await self._not_started(pod)
                return
            self._say(pod.waiting_reason or "waits for its pod to run" if pod else "waits for its pod")
            version = self.me.view_version
            changed = await self.until(
                lambda seen=version: self.me.view_version != seen or self._machine_lost(),  # type: ignore[misc]
                min(self.me.deadline, self.job.after(self.state.timings.resync)),
                f"replica {self.me.index}: {self.me.message}",
            )
            if not changed:
                await self._observe("read before acting on silence")

    def _see_place(self, pod: PodView | None) -> None:
        """The scheduler has chosen among the nodes with a free GPU."""
        if pod is not None and pod.scheduled and self.me.candidates:
            self.me.node, self.me.candidates = pod.node, []
            self.me.deadline = self.job.after(self.state.timings.startup_deadline)

    async def _create_job(self) -> None:
        nodes = [self.me.node] if self.me.node else self.me.candidates
        config = self.job.spec.checkpoint_config
        request = act.CreateReplica(
            job=self.job.ref,
            job_template=self.job.spec.job_template,
            replica=self.me.index,
            incarnation=self.me.incarnation,
            nodes=nodes,
            bought=self.me.vm_key is not None,
            restore=self.me.restore,
            image_pull=config.checkpoint_repo_credential_ref,
            checkpoint_image_repo=config.checkpoint_image_repo,
        )
        came_from = self.me.restore.label if self.me.restore else "the original image"
        view = await call(
            act.CREATE_REPLICA, request, summary=f"{self.job_name} on {', '.join(nodes)} from {came_from}"
        )
        if self.me.view is None:
            self.me.view = view

    async def _delete_old_jobs(self) -> None:
        recovery = self.me.recovery
        for old in recovery.olds if recovery else []:
            if not old.logs_saved and not self.machines.dead(old):
                await self._save_logs(old.incarnation)
            stop = act.StopReplica(ref=self._ref(old.incarnation), delete_job=True, force=self.machines.dead(old))
            await call(act.STOP_REPLICA, stop, summary=f"delete Job of incarnation {old.incarnation}")
            await self.machines.release(old.vm_key, "Replaced")
        if recovery:
            recovery.olds = []

    def _started(self, pod: PodView | None) -> None:
        self.me.running_since = (pod.started_at if pod else None) or workflow.now()
        self.me.node = pod.node if pod and pod.node else self.me.node
        self.me.candidates = []
        recovery, self.me.recovery = self.me.recovery, None
        self.me.failures, self.me.avoid = 0, []
        if self.me.restore:
            self.restoring.proven(self.me.restore)
            self.job.event(
                "Restored",
                f"replica {self.me.index} runs on {self.me.node} from progress {self.me.restore.progress:.0f}"
                + (f", {self._seconds_since(recovery):.1f} s after {recovery.cause}" if recovery else ""),
            )
        else:
            self.job.event("Started", f"replica {self.me.index} runs on {self.me.node} from the beginning")
        self.enter("Running")

    def _seconds_since(self, recovery: Recovery) -> float:
        return (workflow.now() - recovery.noticed_at).total_seconds()

    async def _image_failed(self, trouble: str, pod: PodView | None) -> None:
        """The image is at fault once two nodes could not start it, at once where the registry has it no more."""
        why = (pod.message or pod.waiting_reason or "") if pod else ""
        if self.me.restore:
            self.restoring.failed(self.me.restore, self.me.node or "", missing=trouble == "MissingImage")
        self.job.event("RestoreFailed", f"replica {self.me.index} on {self.me.node}: {trouble}: {why}", warning=True)
        same_machine = trouble == "MissingImage"
        nothing_else = not self.restoring.usable_point()
        await self._again("RestoreFailed", keep_machine=same_machine, ask_survivor=nothing_else)

    async def _never_ran(self, why: str) -> None:
        """On the machine that it has, after a pause: whatever took the pod away may do so again."""
        self.job.event("StartFailed", f"replica {self.me.index} on {self.me.node}: {why}", warning=True)
        await self._again(why, keep_machine=True)
        self._back_off(why)

    async def _not_started(self, pod: PodView | None) -> None:
        if self.me.candidates:
            self.me.avoid = sorted({*self.me.avoid, *self.me.candidates})
            await self._again("the scheduler gave the free GPU to another pod", keep_machine=False)
            return
        reason = (pod.message or pod.waiting_reason if pod else None) or "its pod did not run in time"
        self.job.event("StartTimeout", f"replica {self.me.index} on {self.me.node}: {reason}", warning=True)
        if pod is not None and does_not_start(pod):
            await self._delete_job(reason)
            self._failed_by_itself(reason)  # of the original image: no other machine would help
        elif pod is not None and waits_for_others(pod):
            self.me.deadline = self.job.after(self.state.timings.startup_deadline)  # nor here: a person has to act
        else:
            await self._again("StartTimeout", keep_machine=False)

    async def _again(self, cause: str, *, keep_machine: bool, ask_survivor: bool = False) -> None:
        """Another incarnation in place of one that never ran."""
        await self._delete_job(cause)
        if not keep_machine:
            await self.machines.release(self.me.vm_key, cause)
            if self.me.node:
                self.me.avoid = [*self.me.avoid, self.me.node][-8:]
        self._replace(cause, machine_stays=keep_machine, ask_survivor=ask_survivor)

    async def _delete_job(self, cause: str) -> None:
        stop = act.StopReplica(ref=self._ref(), delete_job=True)
        await call(act.STOP_REPLICA, stop, summary=f"delete {self.job_name}: {cause}")

    async def train(self) -> None:
        """Watch it run: until its pod ends, its machine is going, or it was silent for long enough to look."""
        while not self.job.parking:
            pod = self.me.view.pod if self.me.view else None
            if self._lost_place():
                return
            if pod is None or pod.phase in {"Succeeded", "Failed"} or pod.deleting or pod.disrupted:
                self.enter("Judging", "its pod has ended" if pod else "its pod is gone")
                self.me.deadline = self.job.after(self.state.timings.verdict_delay)
                return
            version = self.me.view_version
            changed = await self.until(
                lambda seen=version: self.me.view_version != seen or self._machine_lost(),  # type: ignore[misc]
                self._next_look(),
                f"replica {self.me.index} trains on {self.me.node}",
            )
            if not changed:
                await self._look()

    def _next_look(self) -> datetime:
        """Where nobody tells anything, or where the patience with a NotReady node ends."""
        timings = self.state.timings
        resync, unready = timings.resync, self.machines.unready_for(self.me.node)
        if not unready or self.me.vm_key:
            return self.job.after(resync)
        return self.job.after(min(resync, max(1.0, timings.not_ready_grace - unready.total_seconds())))

    async def _look(self) -> None:
        """What was lost on the way is found here; of a machine that we bought its own workflow finds it."""
        if self.me.vm_key is None and self.me.node is not None:
            node = act.NodeRef(name=self.me.node)
            self.machines.see_node((await call(act.OBSERVE_NODE, node, summary=f"look at {node.name}: resync")).view)
        await self._observe("resync")
        self.me.failures = 0

    async def judge(self) -> None:
        """Whose end is it? Told a while later, when a machine that was going is known to be."""
        pod = self.me.view.pod if self.me.view else None
        taken_away = pod is None or pod.deleting or pod.disrupted
        if not taken_away and not self._machine_lost():
            await self.until(
                lambda: self._machine_lost(),
                self.me.deadline or workflow.now(),
                f"replica {self.me.index}: was its end the training's own?",
            )
            if self.job.parking:
                return
            await self._observe("the verdict")
            pod = (self.me.view.pod if self.me.view else None) or pod
        noticed = self._machine_lost()
        lives = not noticed and await self.machines.lives(self.me)
        word, why = verdict(pod, noticed=noticed, machine_lives=lives)
        if word == "Preempted":
            self._preempted(why, machine_stays=lives)
            return
        await self._save_logs(self.me.incarnation)
        if word == "Succeeded":
            self.me.outcome = "Succeeded"
            self.job.event("ReplicaSucceeded", f"replica {self.me.index}: {why}")
            self.enter("Releasing", why)
            return
        self._failed_by_itself(why)

    def _failed_by_itself(self, why: str) -> None:
        self.me.restarts += 1
        if self.me.restore and self._ran_seconds() < self.state.timings.verdict_delay:
            # It crashed at once: the image may be what is broken. Each crash counts as a node's failure to start it.
            self.restoring.failed(self.me.restore, f"{self.me.node}#{self.me.restarts}", missing=False)
        allowed = self.job.spec.restarts_allowed
        count = f"restart {self.me.restarts} of {allowed}"
        if self.me.restarts > allowed:
            self.me.outcome = "Failed"
            self.job.event("ReplicaFailed", f"replica {self.me.index}: {why}; {allowed} restarts used up", warning=True)
            self.enter("Releasing", why)
            return
        self.job.event("ReplicaRestarts", f"replica {self.me.index}: {why}; {count}", warning=True)
        self._replace(why, machine_stays=True)

    def _ran_seconds(self) -> float:
        pod = self.me.view.pod if self.me.view else None
        if self.me.running_since is None or pod is None or pod.finished_at is None:
            return 0.0 if self.me.running_since is None else float("inf")
        return (pod.finished_at - self.me.running_since).total_seconds()

    # --- losses

    def _machine_lost(self) -> bool:
        """Its machine is going or gone: a notice, a mark, the node's or the VM's end."""
        if self.machines.failed(self.me.vm_key) or self.me.node is None:
            return self.machines.failed(self.me.vm_key)
        abandoned = self.machines.abandoned(self.me.node, self.me.vm_key)
        return abandoned or going(self.me.node, self.state.nodes, self.state.notices)

    def _lost_place(self) -> bool:
        """Leave for a recovery where the machine is lost; what it was doing there no longer matters."""
        if self.me.node is None and self.me.vm_key is None:
            return False  # a free GPU of the cluster: the scheduler has not chosen yet
        if not self._machine_lost():
            return False
        notice = self.state.notices.get(self.me.node or "")
        self._preempted(notice.source if notice else "its machine is gone", machine_stays=False)
        return True

    def _preempted(self, cause: str, *, machine_stays: bool) -> None:
        self.me.preemptions += 0 if machine_stays else 1
        self.job.event("Preempted", f"replica {self.me.index} on {self.me.node}: {cause}", warning=True)
        self._replace(cause, machine_stays=machine_stays)

    def _replace(self, cause: str, *, machine_stays: bool, ask_survivor: bool = True) -> None:
        """Begin a recovery, in one workflow task: the survivor's checkpoint is asked for, a place is sought."""
        me = self.me
        me.recovery = me.recovery or Recovery(cause=cause, noticed_at=workflow.now())
        me.recovery.node_ready_at = None
        if me.live:
            key = None if machine_stays else me.vm_key
            me.recovery.olds.append(Old(incarnation=me.incarnation, node=me.node, vm_key=key, view=me.view))
            me.live, me.view = False, None
            me.running_since = me.reading = me.reading_at = None  # its memory is lost
        if not machine_stays:
            self.machines.noticed(me.vm_key, cause)
            me.vm_key = me.node = None
        elif me.vm_key is None and me.node is not None:
            me.candidates = [me.node]  # a free GPU is the scheduler's to give, also to who just had it
        self.enter("NodeReady" if me.node else "Preempted", cause)
        if ask_survivor and self.checkpointing.settled(me.recovery):
            me.recovery.checkpoint = None
            self.checkpointing.for_recovery(me.recovery)

    async def _save_old_logs(self) -> None:
        """While the dying node still answers."""
        for old in [*self.me.recovery.olds] if self.me.recovery else []:
            if not old.logs_saved:
                await self._save_logs(old.incarnation)
                old.logs_saved = True

    async def _save_logs(self, incarnation: int) -> None:
        """Best effort: a log that cannot be had must not hold up a recovery."""
        try:
            request = act.SaveLogs(ref=self._ref(incarnation))
            await call(act.SAVE_LOGS, request, summary=f"save the log of {self.me.index}.{incarnation}")
        except ActivityError as error:
            workflow.logger.warning("log of %s.%s: %s", self.me.index, incarnation, explain(error)[1])

    # --- letting go

    async def release(self) -> None:
        """Save the log, delete the Job (the winner's stays), release the VMs, and see them gone."""
        olds = [old.incarnation for old in self.me.recovery.olds] if self.me.recovery else []
        current = [self.me.incarnation] if self.me.live else []
        for incarnation in [*olds, *current]:
            await self._save_logs(incarnation)
            if self.me.outcome is None or incarnation != self.me.incarnation:
                await self._remove_job(incarnation)
        if not await self.machines.release_all(self.me.index, self.me.halt or self.me.outcome or "Released"):
            return
        self.me.recovery = self.me.node = self.me.vm_key = self.me.view = None
        self.me.live = False
        self.enter(self.me.outcome or "Released", self.me.halt or self.me.message)

    async def _remove_job(self, incarnation: int) -> None:
        """Delete the Job and see its pod stopped, before the machine under it goes."""
        deadline = self.job.after(self.state.timings.drain)
        while True:
            late = workflow.now() >= deadline
            stop = act.StopReplica(ref=self._ref(incarnation), delete_job=True, force=late)
            view = await call(act.STOP_REPLICA, stop, summary=f"delete the Job of {self.me.index}.{incarnation}")
            if (not view.job_exists and view.pod is None) or late:
                return
            await workflow.sleep(timedelta(seconds=POLL_SECONDS))

    # --- small

    @property
    def job_name(self) -> str:
        """Name of this incarnation's Job."""
        return replica_job_name(self.job.start.name, self.job.start.job_id, self.me.index, self.me.incarnation)

    def enter(self, phase: Phase, message: str = "") -> None:
        """Go to a phase; people see it."""
        self.me.phase, self.me.message, self.me.since, self.me.deadline = phase, message, workflow.now(), None
        self.job.touch()

    async def until(self, condition: Callable[[], bool], deadline: datetime, waits_for: str) -> bool:
        """Wait; raises HaltedError where the replica is to let go meanwhile."""
        came = await self.job.until(lambda: condition() or self._halted(), deadline, waits_for)
        if self._halted():
            raise HaltedError
        return came

    async def _observe(self, why: str) -> None:
        """Look; what the bridge tells meanwhile may be newer than the answer, and what is newer still it tells too."""
        version = self.me.view_version
        view = await call(act.OBSERVE_REPLICA, self._ref(), summary=f"look at {self.job_name}: {why}")
        if self.me.view_version == version:
            self.me.view = view

    def _ref(self, incarnation: int | None = None) -> act.ReplicaRef:
        number = self.me.incarnation if incarnation is None else incarnation
        return act.ReplicaRef(job=self.job.ref, replica=self.me.index, incarnation=number)

    def _halted(self) -> bool:
        return self.me.halt is not None and self.me.phase != "Releasing"

    def _failed(self, error: ActivityError) -> None:
        reason, message = explain(error)
        self._back_off(f"{reason}: {message}")
        self.job.event(f"{self.me.phase}Failed", f"replica {self.me.index}: {message}", warning=True)

    def _back_off(self, message: str) -> None:
        self.me.failures += 1
        self.me.message = message
        self.me.retry_at = workflow.now() + back_off(self.me.failures, self.state.timings.retry)
        self.job.touch()

    async def _rest(self) -> None:
        if self.me.retry_at:
            await self.until(lambda: False, self.me.retry_at, f"back-off after: {self.me.message}")
        if not self.job.parking:
            self.me.retry_at = None

    def _say(self, message: str) -> None:
        """Tell what it waits for."""
        if message != self.me.message:
            self.me.message = message
            self.job.touch()
