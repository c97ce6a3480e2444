"""What all phases of a replica share: how it waits, what it reports, and how it is lost."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import events
    from api.names import replica_job_name
    from api.node_conditions import BROKEN
    from api.views import PodView
    from workflows.job.checkpoints.policy.progress import training_time
    from workflows.job.replica.policy.ends import End, count, left
    from workflows.job.replica.policy.recovery import Loss, RecoveryPlan, plan_recovery
    from workflows.job.replica.policy.verdict import deciding_end, decisive_pod, has_ended
    from workflows.policy.backoff import USUAL

from api.phases import Phase
from workflows.common.calls import call, call_unless, explain
from workflows.common.patches import patched
from workflows.job.checkpoints.checkpoints import Checkpoints
from workflows.job.checkpoints.restore_points import RestorePoints
from workflows.job.core.job import Job
from workflows.job.core.logs import Logs
from workflows.job.core.pod_starts import PodStarts
from workflows.job.core.stability import report_stability
from workflows.job.machines.machines import Machines
from workflows.job.state.replica import Old, Recovery, Replica

Out = TypeVar("Out")

HANGING_SECONDS = 10
"""The grace in seconds of pods that cannot save anything any more, because a pod of their gang is gone."""


class HaltedError(Exception):
    """The replica has to release what it has. Its waits raise this."""


class Life:
    """One replica in its job, as all its phases share it."""

    def __init__(self, job: Job, checkpoints: Checkpoints, machines: Machines, me: Replica) -> None:
        self.job = job
        self.state = job.state
        self.checkpoints = checkpoints
        self.machines = machines
        self.nodes = machines.nodes
        self.me = me
        self.restore_points = RestorePoints(job)
        self.rescue = checkpoints.rescue
        self.logs = Logs(job)
        self.pod_starts = PodStarts(job)

    # --- phases and waits

    def enter(self, phase: Phase, message: str = "") -> None:
        """Enter a phase. The message is shown in the status."""
        self.me.phase, self.me.message, self.me.since, self.me.deadline = phase, message, workflow.now(), None
        self.job.touch()

    def look_for_place(self, why: str) -> None:
        """Look for a place: the first one, or another after a loss."""
        self.enter("Preempted" if self.me.recovery else "Pending", why)

    def say(self, message: str) -> None:
        """Show in the status what the replica waits for."""
        if message != self.me.message:
            self.me.message = message
            self.job.touch()

    async def until(self, condition: Callable[[], bool], deadline: datetime, waits_for: str) -> bool:
        """Wait for the condition or the end of the run. False if neither came before the deadline.

        Raises:
            HaltedError: The replica has to release what it has.
        """
        came = await self.job.until(lambda: condition() or self.halted(), deadline, waits_for)
        if self.halted():
            raise HaltedError
        return came

    def halted(self) -> bool:
        """True if the replica has to release what it has, and has not begun to do so."""
        return self.me.halt is not None and self.me.phase != "Releasing"

    def back_off(self, message: str, *, in_vain: bool = False, ceiling: float = USUAL) -> None:
        """Delay the next step after one that failed, and say why.

        With ``in_vain`` the failed step cost a VM: the pause is then much longer, and the message says when it ends.
        """
        retry, first = self.me.retry, self.state.timings.retry
        if in_vain:
            retry.after_vm_in_vain(workflow.now(), first)
            message = f"{message}; the next VM is bought at {retry.at:%H:%M:%S} UTC"
        else:
            retry.after_failure(workflow.now(), first, ceiling=ceiling)
        self.me.message = message
        self.job.touch()

    @property
    def counts_in_vain(self) -> bool:
        """True if each VM that never ran a pod counts as bought in vain. Runs of earlier releases count otherwise."""
        return patched("pods-start")

    async def observe(self, why: str) -> None:
        """Read the Job and its pod. What the bridge reports meanwhile is newer and counts instead."""
        version = self.me.run.view_version
        view = await self.ask(act.OBSERVE_REPLICA, f"read {self.job_name}: {why}", lambda: False)
        if view is not None and self.me.run.view_version == version:
            self.me.run.see(view, version)

    async def ask(
        self, signature: act.Signature[act.ReplicaRef, Out], why: str, over: Callable[[], bool]
    ) -> Out | None:
        """Ask about the present incarnation; None if the bridge reports on it first, or if it is ``over``.

        In a busy hour the question waits its turn for minutes.

        Raises:
            ActivityError: The activity failed.
        """
        if not patched("news-first"):
            return await call(signature, self.ref(), summary=why)
        version = self.me.run.view_version
        return await call_unless(
            lambda: self.me.run.view_version != version or over(), signature, self.ref(), summary=why
        )

    def news_since(self, version: int) -> int:
        """Return the version of the view after which the next one is news: the one that the caller has judged.

        Runs of earlier releases wait for the next one from now on, so they overlook what came while they asked.
        """
        latest = self.me.run.view_version
        return version if latest != version and patched("news-while-asking") else latest

    def ref(self, incarnation: int | None = None) -> act.ReplicaRef:
        """Name an incarnation for activities; the present one if none is given."""
        number = self.me.incarnation if incarnation is None else incarnation
        return act.ReplicaRef(job=self.job.ref, replica=self.me.index, incarnation=number)

    @property
    def job_name(self) -> str:
        """Return the name of the present incarnation's Job."""
        return replica_job_name(self.job.start.name, self.job.start.job_id, self.me.index, self.me.incarnation)

    # --- losses

    def machine_lost(self) -> bool:
        """True if a machine of the replica is gone, or about to go by a notice."""
        return bool(self.nodes.lost_members(self.me.place))

    def must_leave(self) -> bool:
        """True if a machine is lost, and the training cannot go on until the last moment of a long notice."""
        return self.machine_lost() and self.nodes.trains_until(self.me) is None

    def lost_place(self) -> bool:
        """Begin a recovery if the machine is lost. True if it is: what the replica was doing no longer matters."""
        if not self.me.place.has_machine:
            return False  # a free GPU of the cluster: the scheduler has not chosen yet
        if not self.machine_lost():
            return False
        notices = self.state.notices_to(self.me)
        sources = [notice.source for notice in notices.values()]
        silent = [f"{node} is silent, and the gang waits for it" for node in self.nodes.silent(self.me.place)]
        self.preempted([*sources, *silent, "its machine is gone"][0], machine_stays=False)
        for node, notice in notices.items():
            if notice.source in BROKEN:
                self._count_broken(node, notice.source)
        return True

    def _count_broken(self, node: str, why: str) -> None:
        """Count a machine that broke. From the second in a row the pause before the next one grows.

        One cause, such as a driver that does not suit the machines, may break all of them soon after they are bought.
        """
        if not patched("broken-machines"):
            return
        end = End(kind="Broke", node=node, why=why)
        self.me.ends = left(count(self.me.ends, end), end)
        report_stability(self.job)
        if self.me.ends.machines > 1:
            self.me.retry.count_machines(self.me.ends.machines)
            self.back_off(f"{node} is broken: {why}", in_vain=True)

    def preempted(self, cause: str, *, machine_stays: bool) -> None:
        """Begin a recovery after an end that was not the training's own. It never counts against ``maxRestarts``."""
        self.me.preemptions += 0 if machine_stays else 1
        self.job.event(events.PREEMPTED, f"replica {self.me.index} on {self._lost_names}: {cause}", warning=True)
        self.replace(cause, machine_stays=machine_stays)

    @property
    def _lost_names(self) -> str:
        """Name the nodes that a gang has lost, for people; all of them if none is known to be lost."""
        place = self.me.place
        lost = place.of_members(self.nodes.lost_members(place)) if place.is_gang else []
        return ", ".join(seat.node for seat in lost if seat.node) or place.names

    def failed_by_itself(self, why: str, *, machine_stays: bool = True, members: frozenset[int] | None = None) -> None:
        """Restart a failed training as often as ``maxRestarts`` allows, on the same machine if ``machine_stays``.

        Otherwise it leaves the machines of these ``members``, or all.
        """
        self.me.restarts += 1
        crashed = self.me.run.restore is not None and self.ran_seconds() < self.state.timings.verdict_delay
        is_image = self.me.run.restore is not None and self.me.run.restore.kind == "Image"  # Blame judges these
        if self.me.run.restore and crashed and (not is_image or not patched("own-ends")):
            # It crashed at once, so the restore point may be broken. Each crash counts as a node that did not start it.
            self.restore_points.failed(self.me.run.restore, f"{self.me.place.names}#{self.me.restarts}", missing=False)
        allowed = self.job.spec.restarts_allowed
        count = f"restart {self.me.restarts} of {allowed}"
        if self.me.restarts > allowed:
            self.me.outcome = "Failed"
            self.job.event(
                events.REPLICA_FAILED, f"replica {self.me.index}: {why}; {allowed} restarts used up", warning=True
            )
            self.enter("Releasing", why)
            return
        self.job.event(events.REPLICA_RESTARTS, f"replica {self.me.index}: {why}; {count}", warning=True)
        self.replace(why, machine_stays=machine_stays, announce=machine_stays, members=members)

    def restore_failed(self, why: str, *, missing: bool) -> None:
        """Record that its restore point is to blame. ``missing`` means that no node will start it."""
        if self.me.run.restore:
            self.restore_points.failed(self.me.run.restore, self.me.place.listed or "", missing=missing)
        self.job.event(events.RESTORE_FAILED, f"replica {self.me.index} on {self.me.place.names}: {why}", warning=True)

    @property
    def lagging_pod(self) -> PodView | None:
        """Return the pod for which the start of the present incarnation waits; None if a member has none yet."""
        pods, main = self.me.run.pods, self.job.spec.main_container
        decisive = self.decisive_pod
        if decisive is None or has_ended(decisive, main):
            return decisive
        return min(pods.values(), key=lambda pod: pod.phase == "Running" and pod.started_at is not None)

    @property
    def decisive_pod(self) -> PodView | None:
        """Return the pod by which the present incarnation is judged; None if a member has none."""
        return decisive_pod(self.me.run.pods, self.me.members, self.job.spec.main_container)

    def ran_seconds(self) -> float:
        """Return the seconds from its start to its pod's end; 0 if it never ran, infinity if the end is unknown."""
        pod = self.decisive_pod
        end = deciding_end(pod, self.job.spec.main_container) if pod else None
        finished_at = (end.finished_at if end else None) or (pod.finished_at if pod else None)
        if self.me.run.running_since is None or finished_at is None:
            return 0.0 if self.me.run.running_since is None else float("inf")
        return (finished_at - self.me.run.running_since).total_seconds()

    async def move(self) -> None:
        """Move to the reserved spot VM with the checkpoint just made, and release the present machine."""
        if self.me.spot_return.returns:
            self._move_gang()
            return
        me, left = self.me, self.me.place.vm_keys
        number = me.spot_return.move()
        self.job.event(
            events.BACK_TO_SPOT, f"replica {me.index} leaves {me.place.names} for the spot VM {me.spot_return.reserved}"
        )
        self.replace("back to spot", machine_stays=False, ask_survivor=False, announce=False)
        if me.recovery:
            me.recovery.checkpoint = number
        await self.machines.release_each(left, "BackToSpot")

    def _move_gang(self) -> None:
        """Leave the on-demand machines for the spare ones. They go once the pods on them have saved themselves."""
        me, members = self.me, frozenset(self.state.on_demand_members(self.me))
        names = ", ".join(seat.node for seat in me.place.of_members(members) if seat.node)
        spot = ", ".join(me.place.spare_nodes)
        self.job.event(events.BACK_TO_SPOT, f"replica {me.index} leaves {names} for the spot VMs {spot}")
        me.spot_return.end()
        me.spot_return.at = None
        self.replace("back to spot", machine_stays=not members, ask_survivor=False, announce=False, members=members)

    def resize(self, members: int) -> bool:
        """Start a gang again with more members, for which there are spare machines, or with fewer. True if it does."""
        place, before = self.me.place, len(self.me.members)
        place.grows = False
        if members == before:
            return False
        surplus = frozenset(range(members, before))  # their machines go once their pods have saved themselves
        why = f"{members} members instead of {before}"
        self.replace(why, machine_stays=not surplus, ask_survivor=False, announce=False, members=surplus)
        place.resize(members)
        if not place.bought:
            place.candidates = place.nodes
        if place.settled:
            self.enter("NodeReady", why)
        return True

    def replace(
        self,
        cause: str,
        *,
        machine_stays: bool,
        ask_survivor: bool = True,
        announce: bool = True,
        members: frozenset[int] | None = None,
    ) -> None:
        """Begin a recovery: end the present incarnation and look for a place for the next one.

        The arguments are those of :class:`Loss`.
        """
        loss = Loss(cause, machine_stays=machine_stays, ask_survivor=ask_survivor, announce=announce, members=members)
        if self.me.place.is_gang:
            self.me.place.move_to(self.me.run.nodes)
        self._carry_out(plan_recovery(self.state, self.me, loss, workflow.now()))

    def _carry_out(self, plan: RecoveryPlan) -> None:
        """Carry out a plan within one workflow task: request everything before waiting for anything."""
        me, cause = self.me, plan.loss.cause
        me.ran = me.has_run
        me.recovery = recovery = me.recovery or Recovery(cause=cause, noticed_at=workflow.now())
        recovery.node_ready_at = None
        if plan.rescue:
            self.rescue.begin(me, recovery, plan.rescue)
        if plan.ends:
            recovery.olds.append(plan.ends)
            now = workflow.now()
            self.state.ledger.end(me.index, plan.ends.incarnation, now, cause, reaches=training_time(me, now))
            if plan.saves_itself:
                self.job.begin_urgent(self.job_name)
                stop = self._ask_to_save(plan.ends, self.job_name, hangs=plan.hangs)
                self.job.spawn(stop, f"SIGTERM for {me.index}.{me.incarnation}")
            me.run.end()
        for key in plan.warned_vms:
            self.machines.warn(key, cause)
        if plan.silent_vms:
            self.job.spawn(self.machines.release_each(plan.silent_vms, "Silent"), "silent machines")
        me.place.leave(plan.leaves)
        me.place.candidates = plan.candidates
        looks: Phase = "Preempted" if me.has_run or not self.counts_in_vain else "Pending"
        self.enter("NodeReady" if plan.settled else looks, cause)
        if plan.survivor is not None:
            recovery.checkpoint = None
            self.checkpoints.ask(recovery, plan.survivor)

    async def _ask_to_save(self, old: Old, job_name: str, *, hangs: bool) -> None:
        """Stop the training in mode Application, so that it saves itself within the grace that its template gives.

        One that ``hangs`` gets less: its processes wait for a lost one, and would use up the grace for nothing.
        """
        try:
            if self.nodes.stopped(old):
                return
            grace = HANGING_SECONDS if hangs else None
            if len(old.seats) > 1 and not hangs:
                old.told_at = workflow.now()
            stop = act.StopReplica(ref=self.ref(old.incarnation), delete_job=False, grace=grace)
            summary = f"stop incarnation {old.incarnation}, which then saves itself"
            await call(act.STOP_REPLICA, stop, summary=summary, urgent=True, ahead=True)
        except ActivityError as error:
            workflow.logger.warning("stop of %s.%s: %s", self.me.index, old.incarnation, explain(error)[1])
        finally:
            self.job.end_urgent(job_name)
        await self.save_logs(old.incarnation)

    async def save_logs(self, incarnation: int) -> None:
        """Save the log of an incarnation. A failure is only logged, because it must not delay a recovery."""
        await self.logs.save(self.me, self.ref(incarnation))


class Part:
    """A part of the replica's life that carries out some phases, with what it works on."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.job = life.job
        self.state = life.state
        self.checkpoints = life.checkpoints
        self.machines = life.machines
        self.nodes = life.nodes
        self.restore_points = life.restore_points
        self.rescue = life.rescue
        self.me = life.me
