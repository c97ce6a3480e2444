"""Trainings that report progress and then stand still: they are looked at now and then, and restarted in the end."""

from datetime import datetime

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.policy.stalls import Standing, patience, pause, standing

from workflows.job import Job
from workflows.readings import Readings
from workflows.state import Replica

PROGRESSING = "Progressing"


class Stalls:
    """The patience with the trainings of one job, which ``spec.stallTimeout`` names."""

    def __init__(self, job: Job, readings: Readings) -> None:
        self.job = job
        self.state = job.state
        self.readings = readings

    async def run(self) -> None:
        """Look as long as the job lives and has a patience; an edit changes it at once."""
        while not self.job.closing:
            await workflow.wait_condition(lambda: self._patience() is not None or self.job.closing)
            seconds = self._patience()
            if self.job.closing or seconds is None or not workflow.patched("stalls"):
                return
            edited = await self.job.until(
                lambda seen=seconds: self._patience() != seen or self.job.closing,  # type: ignore[misc]
                self._next(seconds),
                "the next look whether the trainings make progress",
            )
            if not edited:
                await self._look(seconds)

    def _patience(self) -> float | None:
        return patience(self.job.spec) if self.state.admitted and self.state.spec is not None else None

    def _standing(self, seconds: float) -> list[tuple[Replica, Standing]]:
        now = workflow.now()
        found = [(replica, standing(replica, seconds, now)) for replica in self.state.replicas.values()]
        return [(replica, stands) for replica, stands in found if stands is not None]

    def _next(self, seconds: float) -> datetime:
        """Compute the next look: after a part of the patience, or earlier if one training's ends before."""
        usual = self.job.after(pause(seconds))
        ends = [stands.until for _, stands in self._standing(seconds) if stands.until > workflow.now()]
        return min([usual, *ends])

    async def _look(self, seconds: float) -> None:
        await self.readings.read_all()
        told = []
        for replica, stands in self._standing(seconds):
            since = f"has reported {stands.progress:g} since {stands.since:%d %b %H:%M:%S} UTC"
            if workflow.now() >= stands.until:
                replica.hung = f"it {since}"
                told.append(f"replica {replica.index} {since}, and is restarted")
            elif (workflow.now() - stands.since).total_seconds() >= seconds / 2:
                told.append(
                    f"replica {replica.index} {since}: it is restarted at {stands.until:%d %b %H:%M:%S} UTC if it "
                    "reports nothing else by then (spec.stallTimeout)"
                )
        if told:
            self.job.condition(PROGRESSING, False, "StandsStill", "; ".join(told))
        elif PROGRESSING in self.state.conditions:
            self.job.condition(PROGRESSING, True, "NothingStandsStill")
        self.job.touch()
