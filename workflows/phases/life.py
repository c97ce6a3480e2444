"""What all phases of one replica's life share: how it waits, what it tells, and how it is lost."""

from collections.abc import Callable
from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.names import replica_job_name
    from api.node_conditions import BROKEN
    from workflows.policy.backoff import back_off
    from workflows.policy.standing import End, count, left
    from workflows.policy.survivor import going
    from workflows.policy.verdict import deciding_end

from workflows.calls import call, explain
from workflows.checkpointing import Checkpointing
from workflows.job import Job
from workflows.logs import Logs
from workflows.machines import Machines
from workflows.rescue import Rescue
from workflows.restoring import Restoring
from workflows.stability import tell_stability
from workflows.starts import Starts
from workflows.state import Old, Phase, Recovery, Replica


class HaltedError(Exception):
    """The replica is to let go of what it has; raised by its waits."""


class Life:
    """One replica in its job, between the phases."""

    def __init__(self, job: Job, checkpointing: Checkpointing, machines: Machines, me: Replica) -> None:
        self.job = job
        self.state = job.state
        self.checkpointing = checkpointing
        self.machines = machines
        self.nodes = machines.nodes
        self.me = me
        self.restoring = Restoring(job)
        self.rescue = Rescue(job, checkpointing)
        self.logs = Logs(job)
        self.starts = Starts(job)

    # --- going on

    def enter(self, phase: Phase, message: str = "") -> None:
        """Go to a phase; people see it."""
        self.me.phase, self.me.message, self.me.since, self.me.deadline = phase, message, workflow.now(), None
        self.job.touch()

    def seek_again(self, why: str) -> None:
        """Seek a place: the first one, or another after a loss."""
        self.enter("Preempted" if self.me.recovery else "Pending", why)

    def say(self, message: str) -> None:
        """Tell what it waits for."""
        if message != self.me.message:
            self.me.message = message
            self.job.touch()

    async def until(self, condition: Callable[[], bool], deadline: datetime, waits_for: str) -> bool:
        """Wait; raises HaltedError where the replica is to let go meanwhile."""
        came = await self.job.until(lambda: condition() or self.halted(), deadline, waits_for)
        if self.halted():
            raise HaltedError
        return came

    def halted(self) -> bool:
        """It is to let go of what it has, and does not do so yet."""
        return self.me.halt is not None and self.me.phase != "Releasing"

    def back_off(self, message: str, *, in_vain: bool = False) -> None:
        """A step failed: the next one waits, and people see why.

        One that cost a VM waits much longer each time, up to an hour: what keeps VMs from joining rarely heals itself.
        """
        retry = self.state.timings.retry
        if in_vain:
            self.me.in_vain += 1
            wait = back_off(self.me.in_vain, retry, factor=6, ceiling=360)
        else:
            self.me.failures += 1
            wait = back_off(self.me.failures, retry)
        self.me.retry_at = workflow.now() + wait
        self.me.message = f"{message}; the next VM is bought at {self.me.retry_at:%H:%M:%S} UTC" if in_vain else message
        self.job.touch()

    @property
    def counts_in_vain(self) -> bool:
        """True if each VM that never ran a pod counts as bought in vain; workflows that began earlier count others."""
        return workflow.patched("pods-start")

    async def observe(self, why: str) -> None:
        """Look; what the bridge tells meanwhile may be newer than the answer, and what is newer still it tells too."""
        version = self.me.view_version
        view = await call(act.OBSERVE_REPLICA, self.ref(), summary=f"look at {self.job_name}: {why}")
        if self.me.view_version == version:
            self.me.see(view, version)

    def ref(self, incarnation: int | None = None) -> act.ReplicaRef:
        """One of its incarnations, for activities; the present one where none is named."""
        number = self.me.incarnation if incarnation is None else incarnation
        return act.ReplicaRef(job=self.job.ref, replica=self.me.index, incarnation=number)

    @property
    def job_name(self) -> str:
        """Name of this incarnation's Job."""
        return replica_job_name(self.job.start.name, self.job.start.job_id, self.me.index, self.me.incarnation)

    # --- losses

    def machine_lost(self) -> bool:
        """Its machine is going or gone: a notice, a mark, the node's or the VM's end."""
        if self.nodes.failed(self.me.vm_key) or self.me.node is None:
            return self.nodes.failed(self.me.vm_key)
        abandoned = self.nodes.abandoned(self.me.node, self.me.vm_key)
        return abandoned or going(self.me.node, self.state.nodes, self.state.notices)

    def lost_place(self) -> bool:
        """Leave for a recovery where the machine is lost; what it was doing there no longer matters."""
        if self.me.node is None and self.me.vm_key is None:
            return False  # a free GPU of the cluster: the scheduler has not chosen yet
        if not self.machine_lost():
            return False
        notice, node = self.state.notices.get(self.me.node or ""), self.me.node
        self.preempted(notice.source if notice else "its machine is gone", machine_stays=False)
        if notice is not None and node is not None and notice.source in BROKEN:
            self._count_broken(node, notice.source)
        return True

    def _count_broken(self, node: str, why: str) -> None:
        """Count a machine that broke; after the second in a row each further one is bought ever later.

        The same cause, say a driver that does not suit the machines, breaks them all soon after they are bought.
        """
        if not workflow.patched("broken-machines"):
            return
        end = End(kind="Broke", node=node, why=why)
        self.me.ends = left(count(self.me.ends, end), end)
        tell_stability(self.job)
        if self.me.ends.machines > 1:
            self.me.in_vain = max(self.me.in_vain, self.me.ends.machines - 1)
            self.back_off(f"{node} is broken: {why}", in_vain=True)

    def preempted(self, cause: str, *, machine_stays: bool) -> None:
        """Its end was not its own: that never counts against ``maxRestarts``."""
        self.me.preemptions += 0 if machine_stays else 1
        self.job.event("Preempted", f"replica {self.me.index} on {self.me.node}: {cause}", warning=True)
        self.replace(cause, machine_stays=machine_stays)

    def failed_by_itself(self, why: str, *, machine_stays: bool = True) -> None:
        """Start a failed training again, on its machine if ``machine_stays``, as long as ``maxRestarts`` allows."""
        self.me.restarts += 1
        crashed = self.me.restore is not None and self.ran_seconds() < self.state.timings.verdict_delay
        is_image = self.me.restore is not None and self.me.restore.kind == "Image"  # of these see Blame
        if self.me.restore and crashed and (not is_image or not workflow.patched("own-ends")):
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
        self.replace(why, machine_stays=machine_stays, announce=machine_stays)

    def restore_failed(self, why: str, *, missing: bool) -> None:
        """What it was restored from is at fault; ``missing`` where that is so on every node."""
        if self.me.restore:
            self.restoring.failed(self.me.restore, self.me.node or "", missing=missing)
        self.job.event("RestoreFailed", f"replica {self.me.index} on {self.me.node}: {why}", warning=True)

    def ran_seconds(self) -> float:
        """From its start to its pod's end; without end where that is not known."""
        pod = self.me.view.pod if self.me.view else None
        end = deciding_end(pod, self.job.spec.main_container) if pod else None
        finished_at = (end.finished_at if end else None) or (pod.finished_at if pod else None)
        if self.me.running_since is None or finished_at is None:
            return 0.0 if self.me.running_since is None else float("inf")
        return (finished_at - self.me.running_since).total_seconds()

    async def move(self) -> None:
        """Over to the spot VM that is Ready for it, from the checkpoint just made of it; its machine is let go of."""
        me, left, number = self.me, self.me.vm_key, self.me.return_checkpoint
        me.moving, me.return_at, me.return_checkpoint = False, None, None
        self.job.event("BackToSpot", f"replica {me.index} leaves {me.node} for the spot VM {me.reserved}")
        self.replace("back to spot", machine_stays=False, ask_survivor=False, announce=False)
        if me.recovery:
            me.recovery.checkpoint = number
        await self.machines.release(left, "BackToSpot")

    def replace(self, cause: str, *, machine_stays: bool, ask_survivor: bool = True, announce: bool = True) -> None:
        """Begin a recovery, in one workflow task: the survivor's checkpoint is asked for, a place is sought."""
        me = self.me
        me.ran = me.has_run
        me.recovery = me.recovery or Recovery(cause=cause, noticed_at=workflow.now())
        me.recovery.node_ready_at = None
        if not machine_stays:
            self.rescue.dump_the_dying(me, me.recovery)
        if me.live:
            key = None if machine_stays else me.vm_key
            old = Old(incarnation=me.incarnation, node=me.node, vm_key=key, view=me.view)
            me.recovery.olds.append(old)
            self.state.ledger.end(me.index, me.incarnation, workflow.now(), cause)
            if not self.checkpointing.takes_images:
                self.job.spawn(self._ask_to_save(old), f"SIGTERM for {me.index}.{me.incarnation}")
            me.live, me.view, me.hindered_since = False, None, None
            me.running_since = me.reading = me.reading_at = me.first_reading = None  # its memory is lost
        if not machine_stays:
            if announce:
                self.machines.warn(me.vm_key, cause)
            me.vm_key = me.node = None
        elif me.vm_key is None and me.node is not None:
            me.candidates = [me.node]  # a free GPU is the scheduler's to give, also to who just had it
        waits: Phase = "Preempted" if me.has_run or not self.counts_in_vain else "Pending"
        self.enter("NodeReady" if me.node else waits, cause)
        if ask_survivor and self.checkpointing.settled(me.recovery):
            me.recovery.checkpoint = None
            self.checkpointing.for_recovery(me.recovery)

    async def _ask_to_save(self, old: Old) -> None:
        """In mode Application SIGTERM makes a training save: at once, with the grace that its template gives."""
        if self.nodes.stopped(old):
            return
        stop = act.StopReplica(ref=self.ref(old.incarnation), delete_job=False)
        try:
            await call(
                act.STOP_REPLICA, stop, summary=f"stop incarnation {old.incarnation}: it is to save", urgent=True
            )
        except ActivityError as error:
            workflow.logger.warning("stop of %s.%s: %s", self.me.index, old.incarnation, explain(error)[1])
        await self.save_logs(old.incarnation)

    async def save_logs(self, incarnation: int) -> None:
        """Best effort: a log that cannot be had must not hold up a recovery."""
        await self.logs.save(self.me, self.ref(incarnation))


class Part:
    """A phase of the life, with what it works on."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.job = life.job
        self.state = life.state
        self.checkpointing = life.checkpointing
        self.machines = life.machines
        self.nodes = life.nodes
        self.restoring = life.restoring
        self.rescue = life.rescue
        self.me = life.me
