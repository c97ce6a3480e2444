"""The job's PodDisruptionBudget, by which evictions wait for a checkpoint: it is deleted for a minute after each.

An eviction stops the training before anything of it could be dumped. Kubernetes does not report an eviction that a
budget has refused, so evictions may pass for a minute after each checkpoint, when they cost next to nothing. A node of
the cluster that somebody cordons is likely to be drained next, so its replica is checkpointed at once.
``docs/decisions/0025`` says more.
"""

from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import events
    from workflows.job.policy.disruption_budget import WINDOW, blocked_until, is_blocked

from workflows.common.calls import call, explain
from workflows.common.patches import patched
from workflows.job.checkpoints.checkpoints import Checkpoints
from workflows.job.core.job import Job
from workflows.job.state.replica import Replica


class DisruptionBudget:
    """Makes and deletes the budget of one job."""

    def __init__(self, job: Job, checkpoints: Checkpoints) -> None:
        self.job = job
        self.state = job.state
        self.checkpoints = checkpoints

    async def run(self) -> None:
        """Make the budget, and delete it after each checkpoint, until the job ends."""
        if not patched("disruption-budget"):
            return
        while not self.job.closing:
            self._update()
            wanted = self._wanted()
            if wanted is not None and wanted != self.state.budget.exists and not await self._set(wanted):
                await self.job.until(lambda: self.job.ending, self.job.next_check(), "the next write of the budget")
                continue
            seen = self._facts()
            await self.job.until(
                lambda known=seen: self._facts() != known or self.job.ending,  # type: ignore[misc]
                self._next(),
                "the next change of the PodDisruptionBudget",
            )
        if self.job.ending and self.state.budget.exists:
            await self._set(False)

    # --- what is seen

    def _trains(self) -> list[Replica]:
        """List the replicas that an eviction would stop."""
        return [one for one in self.state.replicas.values() if one.phase == "Running" and not one.proof]

    def _facts(self) -> tuple[object, ...]:
        asked = self.state.checkpoint(self.state.budget.asked)
        return (
            self._newest(),
            [(one.index, one.incarnation, self._cordoned(one)) for one in self._trains()],
            asked is None or asked.outcome,
            self.state.suspended,
        )

    def _newest(self) -> int:
        return max((point.checkpoint or 0 for point in self.state.points), default=0)

    def _cordoned(self, replica: Replica) -> list[str]:
        """List its nodes that somebody has cordoned. A bought node does not count, because Outlast cordons it."""
        nodes = [node for name in replica.place.free_nodes if (node := self.state.node(name)) is not None]
        return [node.name for node in nodes if not node.schedulable]

    # --- what follows

    def _update(self) -> None:
        """Let evictions pass after a checkpoint. If the node of the only running replica is cordoned, checkpoint it."""
        budget = self.state.budget
        if (newest := self._newest()) > budget.newest:
            budget.newest = newest
            if not self._has_siblings():
                self._open()
        asked = self.state.checkpoint(budget.asked)
        if budget.asked is not None and (asked is None or asked.outcome is not None):
            budget.asked = None
            self._open()
        cordoned = [(one, node) for one in self._trains() for node in self._cordoned(one)]
        budget.cordoned = [node for _, node in cordoned if node in budget.cordoned]
        if len(self._trains()) == 1 and self._is_possible():
            for one, node in cordoned:
                if node not in budget.cordoned:
                    budget.cordoned.append(node)
                    self._save(one, node)

    def _save(self, replica: Replica, node: str) -> None:
        """Checkpoint a replica whose node was cordoned: it is likely to be evicted next."""
        source = self.checkpoints.source()
        if source is not replica:
            self._open()
            return
        self.job.event(events.NODE_CORDONED, f"{node} is cordoned: replica {replica.index} is checkpointed at once")
        self.state.budget.asked = self.checkpoints.request(replica, "Cordoned").number

    def _open(self) -> None:
        self.state.budget.open_until = workflow.now() + WINDOW
        self.state.budget.since = workflow.now()

    def _is_possible(self) -> bool:
        return self.state.admitted and self.checkpoints.takes_images and not self.state.suspended

    def _wanted(self) -> bool | None:
        """Decide whether evictions have to wait; None if nothing trains that they could stop."""
        if not self.state.admitted:
            return None
        if not self._is_possible():
            return False
        if not self._trains():
            self.state.budget.since = None
            return None
        if self._is_several():
            self.state.budget.since = None  # it counts from the moment at which only one trains
            return True
        self.state.budget.since = self.state.budget.since or workflow.now()
        return is_blocked(workflow.now(), open_until=self.state.budget.open_until, until=self._until())

    def _is_several(self) -> bool:
        """True if several replicas train: the budget lets all but the last be evicted, so it may stay."""
        return len(self._trains()) > 1 and patched("budget-of-several")

    def _has_siblings(self) -> bool:
        """True if the job is to have several trainings, so that an eviction of one that trains is soon possible."""
        meant = [one for one in self.state.replicas.values() if one.halt is None and not one.proof and not one.outcome]
        return len(meant) > 1 and patched("budget-of-several")

    def _until(self) -> datetime:
        total = self.state.timings.checkpoint_total
        if self.state.budget.asked is not None:  # that checkpoint has deadlines of its own
            return self.job.after(total)
        since = self.state.budget.since or workflow.now()
        return blocked_until(since, self.checkpoints.schedule.choice().seconds, total)

    def _next(self) -> datetime:
        """Return when something changes without any other event."""
        if not self.state.admitted or not self._is_possible() or not self._trains():
            return self.job.after(self.state.timings.recheck)
        if self._is_several():
            return self.job.next_look()
        moments = [self._until()] + ([self.state.budget.open_until] if self.state.budget.open_until else [])
        later = [moment for moment in moments if moment > workflow.now()]
        return min(later, default=self.job.after(self.state.timings.recheck))

    async def _set(self, exists: bool) -> bool:
        template = self.job.spec.job_template.get("spec", {}).get("template", {})
        labels = (template.get("metadata") or {}).get("labels") or {}
        request = act.SetBudget(
            job=self.job.ref,
            exists=exists,
            labels={key: str(labels[key]) for key in labels},
            members=self.job.spec.members,
        )
        summary = "evictions wait for the next checkpoint" if exists else "evictions may pass"
        try:
            await call(act.SET_BUDGET, request, summary=summary)
        except ActivityError as error:  # nothing waits for it: without the budget an eviction only costs more
            workflow.logger.warning("PodDisruptionBudget: %s", explain(error)[1])
            return False
        self.state.budget.exists = exists
        return True
