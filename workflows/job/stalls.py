"""Stalls: trainings that reported progress and then nothing new are watched, and restarted after ``stallTimeout``."""

from collections.abc import Mapping
from datetime import datetime

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import conditions, reasons
    from workflows.job.policy.stalls import Stall, furthest_behind, pause, stall_of, stall_timeout, stragglers

from workflows.common.patches import patched
from workflows.job.checkpoints.reported_progress import ReportedProgress
from workflows.job.core.job import Job
from workflows.job.state.replica import MemberReading, Replica

MOST = 5
"""How many members of a gang a message names."""


class Stalls:
    """Watches the trainings of one job for as long as ``spec.stallTimeout`` says."""

    def __init__(self, job: Job, reported_progress: ReportedProgress) -> None:
        self.job = job
        self.state = job.state
        self.reported_progress = reported_progress

    async def run(self) -> None:
        """Check from time to time while the job lives and has a timeout. An edit of the timeout counts at once."""
        while not self.job.closing:
            await workflow.wait_condition(lambda: self._timeout() is not None or self.job.closing)
            seconds = self._timeout()
            if self.job.closing or seconds is None or not patched("stalls"):
                return
            if self._is_seen_by_looks(seconds):
                await workflow.wait_condition(lambda seen=seconds: self._timeout() != seen or self.job.closing)  # type: ignore[misc]
                continue
            edited = await self.job.until(
                lambda seen=seconds: self._timeout() != seen or self.job.closing,  # type: ignore[misc]
                self._next(seconds),
                "the next check of the trainings' progress",
            )
            if not edited:
                await self._check(seconds)

    def _is_seen_by_looks(self, seconds: float) -> bool:
        """True if the regular looks, which read the progress too, are often enough for this timeout."""
        return pause(seconds) >= self.state.timings.resync and patched("one-look")

    def looked(self) -> None:
        """Judge the trainings after a regular look, which has read their progress."""
        seconds = self._timeout()
        if seconds is not None and self._is_seen_by_looks(seconds):
            self._judge(seconds)

    def _timeout(self) -> float | None:
        return stall_timeout(self.job.spec) if self.state.admitted and self.state.spec is not None else None

    def _stalls(self, seconds: float) -> list[tuple[Replica, Stall]]:
        now = workflow.now()
        found = [(replica, stall_of(replica, seconds, now)) for replica in self.state.replicas.values()]
        return [(replica, stall) for replica, stall in found if stall is not None]

    def _next(self, seconds: float) -> datetime:
        """Return the time of the next check: after a part of the timeout, or when a training's timeout ends."""
        usual = self.job.after(pause(seconds))
        ends = [stall.until for _, stall in self._stalls(seconds) if stall.until > workflow.now()]
        return min([usual, *ends])

    def _heard_at(self, replica: Replica) -> datetime | None:
        """Return when the training was last heard of: a log that nobody can read says nothing about a stall."""
        return replica.run.heard_at if patched("silence-is-no-standstill") else workflow.now()

    async def _check(self, seconds: float) -> None:
        await self.reported_progress.read_all()
        self._judge(seconds)

    def _stragglers(self, seconds: float) -> list[str]:
        """Describe the members of gangs that report nothing new while others do. That alone restarts nothing."""
        return [
            f"{name} of replica {replica.index} has reported {each.progress:g} since {each.at:%d %b %H:%M:%S} UTC, "
            "while others go on"
            for replica in self.state.replicas.values()
            if replica.phase == "Running"
            for name, each in _named(replica, stragglers(replica, seconds))
        ]

    def _judge(self, seconds: float) -> None:
        messages = self._stragglers(seconds)
        for replica, stall in self._stalls(seconds):
            since = f"has reported {stall.progress:g} since {stall.since:%d %b %H:%M:%S} UTC"
            since += "".join(
                f" ({name} only {each.progress:g})" for name, each in _named(replica, furthest_behind(replica))
            )
            heard_at = self._heard_at(replica) or stall.since
            if heard_at >= stall.until:
                replica.run.hung = f"it {since}"
                messages.append(f"replica {replica.index} {since}, and is restarted")
            elif (heard_at - stall.since).total_seconds() >= seconds / 2:
                messages.append(
                    f"replica {replica.index} {since}: it is restarted at {stall.until:%d %b %H:%M:%S} UTC if it "
                    "reports nothing else by then (spec.stallTimeout)"
                )
        if messages:
            self.job.condition(conditions.PROGRESSING, False, reasons.STANDS_STILL, "; ".join(messages))
        elif conditions.PROGRESSING in self.state.conditions:
            self.job.condition(conditions.PROGRESSING, True, reasons.NOTHING_STANDS_STILL)
        self.job.touch()


def _named(replica: Replica, readings: Mapping[int, MemberReading]) -> list[tuple[str, MemberReading]]:
    """Name members by their numbers and nodes: "member 2 on node-2"."""
    nodes = {member: seat.node or "no node" for member, seat in enumerate(replica.place.seats)}
    return [(f"member {member} on {nodes.get(member, 'no node')}", each) for member, each in readings.items()][:MOST]
