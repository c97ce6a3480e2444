"""The checks of what a job needs: they gate its admission, and are repeated as long as it lives.

After the admission they stop nothing: a training goes on though a key was revoked. They keep its conditions true.
"""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.common import Condition
    from api.overview import CHECKS

from workflows.calls import call, explain
from workflows.job import Job
from workflows.machine_fit import MachineFit, preflight_request


class Checks:
    """The conditions of one job that say whether what it needs is there."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state
        self.machines = MachineFit(job)
        self._under_way = False

    async def passed(self) -> bool:
        """Look before money is spent; True if nothing stands in the way.

        A job that nothing fits is not begun, so that its template can still be corrected, unless a node has room.

        Raises:
            ActivityError: the look failed.
        """
        self.state.checked_at = workflow.now()
        preflight = await call(
            act.PREFLIGHT, preflight_request(self.job), summary="what has to be right before money is spent"
        )
        self._take(preflight)
        if not preflight.passed or preflight.fits:
            return preflight.passed
        return workflow.patched("buy-what-fits") and await self._finds_room()

    async def _finds_room(self) -> bool:
        """True if a node of the cluster would take the pod though nothing that may be bought ever will."""
        request = act.FindCapacity(job=self.job.ref, job_template=self.job.spec.job_template, avoid=[])
        capacity = await call(act.FIND_CAPACITY, request, summary="no machine fits: a free GPU of the cluster?")
        return bool(capacity.nodes)

    def due(self) -> datetime:
        """Compute when the job looks again: soon if something was not as it should be."""
        if self.state.checked_at is None:
            return workflow.now()
        timings = self.state.timings
        found = [self.state.conditions[kind].status for kind in CHECKS if kind in self.state.conditions]
        well = all(status == "True" for status in found)
        return self.state.checked_at + timedelta(seconds=timings.recheck if well else timings.resync)

    def repeat(self) -> None:
        """Look again if it is due, beside everything else: nothing waits for it."""
        if not self.state.admitted or self.job.closing or self._under_way:
            return
        if workflow.now() >= self.due() and workflow.patched("checks-again"):
            self._under_way = True
            self.job.spawn(self._look_again(), "checks again")

    async def _look_again(self) -> None:
        try:
            while not self.job.closing and (self.state.checked_at is None or workflow.now() >= self.due()):
                self.state.checked_at = workflow.now()
                await self._look_once()
        finally:
            self._under_way = False

    async def _look_once(self) -> None:
        request = preflight_request(self.job).model_copy(update={"again": True})
        look = asyncio.create_task(call(act.PREFLIGHT, request, summary="is what it needs still there?"))
        await workflow.wait_condition(lambda: look.done() or self.job.closing)
        if not look.done():  # a new run, in which nobody would hear a notice before this one ends, looks at once
            look.cancel()
            with suppress(ActivityError, asyncio.CancelledError):
                await look
            self.state.checked_at = None
            return
        try:
            preflight = await look
        except ActivityError as error:
            for kind in CHECKS:
                if kind in self.state.conditions:
                    self._unknown(kind, *explain(error))
            return
        self._take(preflight)

    def _take(self, preflight: act.Preflight) -> None:
        """Report what was found; a condition that does not apply any more is removed."""
        self.machines.learn(preflight)
        self._tell(preflight.conditions)

    def _tell(self, conditions: list[Condition]) -> None:
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
                self.job.event("CheckFailed", f"{condition.type}: {condition.message}", warning=True)
            self.job.condition(condition.type, well, condition.reason, condition.message)
        self.job.touch()

    def _unknown(self, kind: str, reason: str, message: str) -> None:
        """Report that it is not known now, and since when."""
        known = self.state.known_at.get(kind)
        since = f"; last known at {known:%Y-%m-%d %H:%M} UTC" if known else ""
        self.job.condition(kind, None, reason, f"{message}{since}")
