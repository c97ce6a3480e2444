"""When the next checkpoint is due: at the interval that a person set, or one tuned to what this job has measured."""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api.duration import AUTO, parse_duration
    from workflows.job import Job
    from workflows.policy.exposure import hazard
    from workflows.policy.hazard import PRIOR_PER_HOUR
    from workflows.policy.interval import Choice, choose, smoothed, worth_telling
    from workflows.state import Replica

LEAST_SECONDS = 1.0


class Pacing:
    """The checkpoint timer of one job, with the figures that it goes by."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state

    def arm(self) -> None:
        """The next scheduled checkpoint is due an interval from now."""
        for replica in self.state.replicas.values():
            self._count(replica)
        self.state.armed_at = workflow.now()
        self._set()

    def _set(self) -> None:
        choice = self.choice()
        since = self.state.armed_at or workflow.now()
        self.state.next_checkpoint_at = max(workflow.now(), since + timedelta(seconds=choice.seconds))
        if self._is_auto and worth_telling(self.state.interval_told, choice.seconds):
            self.state.interval_told = choice.seconds
            self.job.event("CheckpointInterval", f"a checkpoint every {choice.seconds:.0f} s: {choice.reason}")

    @property
    def _is_auto(self) -> bool:
        config = self.job.spec.checkpoint_config
        return config.mode == "Image" and config.checkpoint_interval == AUTO

    def choice(self) -> Choice:
        """The interval and the reason for it."""
        wanted = self.job.spec.checkpoint_config.checkpoint_interval
        if wanted != AUTO:
            return Choice(max(parse_duration(wanted).total_seconds(), LEAST_SECONDS), "checkpointInterval")
        running = [
            each for each in self.state.replicas.values() if each.phase == "Running" and self._may_be_taken(each)
        ]
        rates = [hazard(self.state.observations, self._zone(each), self._age_hours(each)) for each in running]
        return choose(self.state.dump_mean_seconds, sum(rates) / len(rates) if rates else PRIOR_PER_HOUR)

    def measured(self, seconds: float) -> None:
        """A checkpoint has taken so long, from the request until its image was there."""
        self.state.dump_mean_seconds = smoothed(self.state.dump_mean_seconds, seconds)
        self._tune()

    def lost(self, replica: Replica) -> None:
        """The machine under a replica is lost."""
        self._count(replica)
        if not self._may_be_taken(replica):
            return
        self.state.observations.lost(self._zone(replica), self._age_hours(replica), workflow.now())
        self._tune()

    def _tune(self) -> None:
        if self._is_auto and self.state.armed_at is not None:
            self._set()

    def _count(self, replica: Replica) -> None:
        """Add the time that its machine ran and that is in no figure yet."""
        now = workflow.now()
        if replica.phase != "Running" or replica.running_since is None or not self._may_be_taken(replica):
            return
        since = max(replica.running_since, replica.counted_until or replica.running_since)
        self._note_birth(replica)
        self.state.observations.ran(self._zone(replica), self._age_hours(replica, since), self._age_hours(replica))
        replica.counted_until = now

    def _may_be_taken(self, replica: Replica) -> bool:
        """An on-demand machine says nothing of how often spot ones are lost."""
        vm = self.state.vms.get(replica.vm_key or "")
        return vm is None or not vm.runs_on_demand

    def _note_birth(self, replica: Replica) -> None:
        vm = self.state.vms.get(replica.vm_key or "")
        if vm is not None:
            vm.ran_since = vm.ran_since or replica.running_since

    def _zone(self, replica: Replica) -> str:
        """Empty for a machine that we did not buy."""
        vm = self.state.vms.get(replica.vm_key or "")
        return (vm.report.zone if vm and vm.report else None) or ""

    def _age_hours(self, replica: Replica, at: datetime | None = None) -> float:
        vm = self.state.vms.get(replica.vm_key or "")
        born = (vm.ran_since if vm else None) or replica.running_since
        return ((at or workflow.now()) - born).total_seconds() / 3600 if born else 0.0
