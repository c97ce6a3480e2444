"""Evictions wait for a checkpoint: the job's PodDisruptionBudget is there between checkpoints, and gone after each.

An eviction stops the training before anything of it could be dumped. Kubernetes tells nobody of an eviction that a
budget has refused, so evictions pass for a minute after each checkpoint, when they cost next to nothing. A node of the
cluster that somebody cordons is told of: its replica is checkpointed at once. ``docs/decisions/0025`` says more.
"""

from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from workflows.policy.budget import WINDOW, held_until, is_held

from workflows.calls import call, explain
from workflows.checkpointing import Checkpointing
from workflows.job import Job
from workflows.state import Replica


class Budget:
    """The budget of one job."""

    def __init__(self, job: Job, checkpointing: Checkpointing) -> None:
        self.job = job
        self.state = job.state
        self.checkpointing = checkpointing

    async def run(self) -> None:
        """Make the budget, and delete it as the checkpoints come, until the job ends."""
        if not workflow.patched("disruption-budget"):
            return
        while not self.job.closing:
            self._see()
            wanted = self._wanted()
            if wanted is not None and wanted != self.state.budget.held and not await self._set(wanted):
                await self.job.until(lambda: self.job.ending, self.job.after(self.state.timings.resync), "the budget")
                continue
            seen = self._facts()
            await self.job.until(
                lambda known=seen: self._facts() != known or self.job.ending,  # type: ignore[misc]
                self._next(),
                "the next change of the PodDisruptionBudget",
            )
        if self.job.ending and self.state.budget.held:
            await self._set(False)

    # --- what is so

    def _trains(self) -> list[Replica]:
        """List the replicas that an eviction would stop."""
        return [one for one in self.state.replicas.values() if one.phase == "Running" and not one.proof]

    def _facts(self) -> tuple[object, ...]:
        asked = self.state.checkpoints.get(self.state.budget.asked or -1)
        return (
            self._newest(),
            [(one.index, one.incarnation, self._is_cordoned(one)) for one in self._trains()],
            asked is None or asked.outcome,
            self.state.suspended,
        )

    def _newest(self) -> int:
        return max((point.checkpoint or 0 for point in self.state.points), default=0)

    def _is_cordoned(self, replica: Replica) -> bool:
        """True if somebody has cordoned its node; one that was bought is cordoned by Outlast."""
        node = self.state.nodes.get(replica.node or "")
        return replica.vm_key is None and node is not None and not node.schedulable

    # --- what follows

    def _see(self) -> None:
        """Open the window after a checkpoint, and checkpoint the last replica that trains if its node is cordoned."""
        budget = self.state.budget
        if (newest := self._newest()) > budget.newest:
            budget.newest = newest
            self._open()
        asked = self.state.checkpoints.get(budget.asked or -1)
        if budget.asked is not None and (asked is None or asked.outcome is not None):
            budget.asked = None
            self._open()
        cordoned = [one for one in self._trains() if self._is_cordoned(one)]
        budget.cordoned = [one.node for one in cordoned if one.node and one.node in budget.cordoned]
        if len(self._trains()) == 1 and self._is_possible():
            for one in cordoned:
                if one.node and one.node not in budget.cordoned:
                    budget.cordoned.append(one.node)
                    self._ask(one)

    def _ask(self, replica: Replica) -> None:
        """Save what an eviction would cost; the one who cordoned its node is likely to evict it next."""
        source = self.checkpointing.source()
        if source is not replica:
            self._open()
            return
        self.job.event("NodeCordoned", f"{replica.node} is cordoned: replica {replica.index} is checkpointed at once")
        self.state.budget.asked = self.checkpointing.request(replica, "Cordoned").number

    def _open(self) -> None:
        self.state.budget.open_until = workflow.now() + WINDOW
        self.state.budget.since = workflow.now()

    def _is_possible(self) -> bool:
        return self.state.admitted and self.checkpointing.takes_images and not self.state.suspended

    def _wanted(self) -> bool | None:
        """Decide whether evictions are to wait; None as long as nothing trains that they could stop."""
        if not self.state.admitted:
            return None
        if not self._is_possible():
            return False
        if not self._trains():
            self.state.budget.since = None
            return None
        self.state.budget.since = self.state.budget.since or workflow.now()
        return is_held(workflow.now(), open_until=self.state.budget.open_until, until=self._until())

    def _until(self) -> datetime:
        total = self.state.timings.checkpoint_total
        if self.state.budget.asked is not None:  # it ends by deadlines of its own
            return self.job.after(total)
        since = self.state.budget.since or workflow.now()
        return held_until(since, self.checkpointing.pacing.choice().seconds, total)

    def _next(self) -> datetime:
        """Compute when the clock alone changes something."""
        if not self.state.admitted or not self._is_possible() or not self._trains():
            return self.job.after(self.state.timings.recheck)
        moments = [self._until()] + ([self.state.budget.open_until] if self.state.budget.open_until else [])
        later = [moment for moment in moments if moment > workflow.now()]
        return min(later, default=self.job.after(self.state.timings.recheck))

    async def _set(self, held: bool) -> bool:
        template = self.job.spec.job_template.get("spec", {}).get("template", {})
        labels = (template.get("metadata") or {}).get("labels") or {}
        request = act.SetBudget(job=self.job.ref, held=held, labels={key: str(labels[key]) for key in labels})
        summary = "evictions wait for the next checkpoint" if held else "evictions may pass"
        try:
            await call(act.SET_BUDGET, request, summary=summary)
        except ActivityError as error:  # it is a help: nothing waits for it
            workflow.logger.warning("PodDisruptionBudget: %s", explain(error)[1])
            return False
        self.state.budget.held = held
        return True
