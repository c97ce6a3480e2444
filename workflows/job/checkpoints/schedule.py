"""When the next checkpoint is due: at the interval in the spec, or at one tuned to what this job has measured."""

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import events
    from api.duration import AUTO, parse_duration
    from api.market import HazardQuestion
    from workflows.job.checkpoints.policy.interval import Choice, choose, smoothed, worth_reporting
    from workflows.job.checkpoints.policy.source import paused
    from workflows.policy.backoff import back_off
    from workflows.policy.loss_rate import PRIOR_PER_HOUR

from workflows.common.calls import call, explain
from workflows.job.core.job import Job

LEAST_SECONDS = 1.0
"""The shortest interval."""

PAUSE_SECONDS = 3600.0
"""The pause after a checkpoint that killed its training. It is a day after the second in a row, and 24 days after the
third: a dump that does not fit never will, and a training that is killed again and again never ends."""


class Schedule:
    """The checkpoint timer of one job, with the figures that it uses."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state
        self.stale = True  # the market may know a newer loss rate

    def arm(self) -> None:
        """Set the timer: the next scheduled checkpoint is due one interval from now."""
        self.state.armed_at = workflow.now()
        self.doubt()
        self._set()

    def doubt(self) -> None:
        """Note that the market may know a newer loss rate."""
        self.stale = True

    async def refresh(self) -> None:
        """Ask the market for the loss rate. If it does not answer, the last one counts."""
        self.stale = False
        if not self._is_auto or self.state.vm_spec is None:
            return
        running = [
            key for each in self.state.replicas.values() if each.phase == "Running" for key in each.place.vm_keys
        ]
        question = HazardQuestion(vms=running, at=workflow.now())
        ask = act.AskHazard(project=self.state.vm_spec.gcp.project, question=question)
        try:
            found = await call(act.ASK_HAZARD, ask, summary="ask the market how often machines are lost")
        except ActivityError as error:
            workflow.logger.warning("the market: %s", explain(error)[1])
            return
        self.state.losses_per_hour = found.losses_per_hour
        self._tune()

    def _set(self) -> None:
        choice = self.choice()
        since = self.state.armed_at or workflow.now()
        due = since + timedelta(seconds=choice.seconds)
        self.state.next_checkpoint_at = max(workflow.now(), due, self.state.paused_until or due)
        if self._is_auto and worth_reporting(self.state.interval_told, choice.seconds):
            self.state.interval_told = choice.seconds
            self.job.event(events.CHECKPOINT_INTERVAL, f"a checkpoint every {choice.seconds:.0f} s: {choice.reason}")

    @property
    def paused(self) -> bool:
        """True while no checkpoint is scheduled, because the last one killed its training."""
        return paused(self.state, workflow.now())

    def pause(self, number: int) -> datetime:
        """Pause after checkpoint ``number`` killed its training, and return the end of the pause."""
        self.state.killer, self.state.kills = number, self.state.kills + 1
        wait = back_off(self.state.kills, PAUSE_SECONDS, factor=24, ceiling=24 * 24)
        until = self.state.paused_until = workflow.now() + wait
        self._set()
        return until

    def succeeded(self, number: int) -> None:
        """End the pause after a later checkpoint made an image. If the next one kills, the pause is longer."""
        if self.state.paused_until is not None and number > self.state.killer:
            self.state.paused_until = None
            self._set()

    def end_pause(self) -> None:
        """End the pause because a person has changed something. The next checkpoint is due as usual."""
        self.state.kills, self.state.paused_until = 0, None

    @property
    def _is_auto(self) -> bool:
        config = self.job.spec.checkpoint_config
        return config.mode == "Image" and config.checkpoint_interval == AUTO

    def choice(self) -> Choice:
        """Choose the interval, and say why."""
        wanted = self.job.spec.checkpoint_config.checkpoint_interval
        if wanted != AUTO:
            return Choice(max(parse_duration(wanted).total_seconds(), LEAST_SECONDS), "checkpointInterval")
        return choose(self.state.dump_mean_seconds, self.state.losses_per_hour or PRIOR_PER_HOUR)

    def measured(self, seconds: float) -> None:
        """Record the seconds that a checkpoint took, from the request to the pushed image."""
        self.state.dump_mean_seconds = smoothed(self.state.dump_mean_seconds, seconds)
        self._tune()

    def _tune(self) -> None:
        if self._is_auto and self.state.armed_at is not None:
            self._set()
