"""The preflight: checks of what a job needs before it is accepted, repeated as long as it lives.

After the acceptance they stop nothing: a training goes on even if a key was revoked. They only keep conditions true.
"""

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import events
    from api.common import Condition
    from api.overview import CHECKS

from workflows.common.calls import call, call_unless, explain
from workflows.common.patches import patched
from workflows.job.core.job import Job
from workflows.job.machines.fit import MachineFit, preflight_request


class Checks:
    """Checks one job and writes the conditions that say whether it has what it needs."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state
        self.machines = MachineFit(job)
        self._under_way = False

    async def passed(self) -> bool:
        """Check before money is spent. True if the job may begin.

        If no machine fits, the job does not begin, so that its template can still be corrected. An exception is a node
        of the cluster that has room for it.

        Raises:
            ActivityError: The check itself failed.
        """
        self.state.checked_at = workflow.now()
        preflight = await call(
            act.PREFLIGHT, preflight_request(self.job), summary="check everything before money is spent"
        )
        self._take(preflight)
        if not preflight.passed or preflight.fits:
            return preflight.passed
        return patched("buy-what-fits") and await self._finds_room()

    async def _finds_room(self) -> bool:
        """True if a node of the cluster has room for the pod, although no machine that may be bought ever will."""
        request = act.FindCapacity(job=self.job.ref, job_template=self.job.spec.job_template, avoid=[])
        capacity = await call(act.FIND_CAPACITY, request, summary="no machine fits: has the cluster a free GPU?")
        return bool(capacity.nodes)

    def due(self) -> datetime:
        """Return when the next check is due: soon if something was wrong."""
        return self.state.checked_at + self._period() if self.state.checked_at is not None else workflow.now()

    def _period(self) -> timedelta:
        found = [self.state.conditions[kind].status for kind in CHECKS if kind in self.state.conditions]
        well = all(status == "True" for status in found)
        return timedelta(seconds=self.state.timings.recheck if well else self.job.check_seconds)

    def _is_due(self) -> bool:
        """True if it is time for the next check, or nearly so: a moment later the document would be read once more."""
        early = self._period() / 10 if patched("one-look") else timedelta()
        return workflow.now() >= self.due() - early

    def repeat(self) -> None:
        """Check again if it is due, beside everything else. Nothing waits for it."""
        if not self.state.admitted or self.job.closing or self._under_way:
            return
        if self._is_due() and patched("checks-again"):
            self._under_way = True
            self.job.spawn(self._check_again(), "checks again")

    async def _check_again(self) -> None:
        try:
            while not self.job.closing and (self.state.checked_at is None or self._is_due()):
                self.state.checked_at = workflow.now()
                await self._check_once()
        finally:
            self._under_way = False

    async def _check_once(self) -> None:
        request = preflight_request(self.job).model_copy(update={"again": True})
        summary = "does everything it needs still exist?"
        try:
            # While a run ends nobody acts on a notice, so it must not wait for this. The next run checks at once.
            preflight = await call_unless(lambda: self.job.closing, act.PREFLIGHT, request, summary=summary)
        except ActivityError as error:
            for kind in CHECKS:
                if kind in self.state.conditions:
                    self._unknown(kind, *explain(error))
            return
        if preflight is None:
            self.state.checked_at = None
            return
        self._take(preflight)

    def _take(self, preflight: act.Preflight) -> None:
        """Report what was found, and remove conditions that no longer apply."""
        self.machines.learn(preflight)
        self._report(preflight.conditions)

    def _report(self, conditions: list[Condition]) -> None:
        for kind in set(CHECKS) - {condition.type for condition in conditions}:
            self.state.conditions.pop(kind, None)
            self.state.known_at.pop(kind, None)
        for condition in conditions:
            if condition.status == "Unknown":
                self._unknown(condition.type, condition.reason, condition.message)
                continue
            self.state.known_at[condition.type] = workflow.now()
            well = condition.status == "True"
            old = self.state.conditions.get(condition.type)
            if self.state.admitted and not well and old is not None and old.status != "False":
                self.job.event(events.CHECK_FAILED, f"{condition.type}: {condition.message}", warning=True)
            self.job.condition(condition.type, well, condition.reason, condition.message)
        self.job.touch()

    def _unknown(self, kind: str, reason: str, message: str) -> None:
        """Report that a condition is not known now, and when it was last known."""
        known = self.state.known_at.get(kind)
        since = f"; last known at {known:%Y-%m-%d %H:%M} UTC" if known else ""
        self.job.condition(kind, None, reason, f"{message}{since}")
