"""What members of a gang do to each other in the world: they step together, save together, and miss a lost peer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.workflows.cluster_objects import Job, Pod

if TYPE_CHECKING:
    from tests.workflows.cluster import Cluster

START_SPREAD = 0.7  # seconds between the starts of two members
LEAVE_SECONDS = 0.3  # from a SIGTERM to one of them until all have saved and left, if they agree on that
FAIL_SECONDS = 1.8  # from the end of a member until its peers have failed for want of it
GRACE_SECONDS = 30.0  # terminationGracePeriodSeconds by default


class Gangs:
    """The rules of all gangs. A Job with one member is none, and nothing here changes what happens to it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.fails_after: float | None = FAIL_SECONDS
        """Seconds after a member's end until its peers fail, because its connections are reset; None if they hang."""
        self.times_out_after: float | None = None
        """Seconds after a machine vanished without a word until the peers fail; None if they hang for ever."""
        self.agrees = True
        """A SIGTERM to one member makes all of them save and exit. Otherwise a save needs a SIGTERM to each."""
        self.reported: dict[int, float] = {}
        """What members report that have stopped while the others go on."""
        self.exit_code = 1  # of a member that fails because of its peer

    def sigterm(self, job: Job, member: int) -> None:
        """Tell the training of a member to end. If all of them train, it may be time to save."""
        pods = job.pods
        pods[member].told, told_before = True, any(pod.told for pod in pods.values())
        if not job.is_gang:
            self.cluster.on_sigterm(job)
            return
        if not job.trains:
            return  # a save needs everybody
        if self.agrees and not told_before:
            self.cluster.on_sigterm(job)
            self.cluster.clock.after(LEAVE_SECONDS, lambda: self._leave(job))
        elif not self.agrees and all(pod.told for pod in pods.values()):
            self.cluster.on_sigterm(job)

    def _leave(self, job: Job) -> None:
        """Let those members exit that got no SIGTERM themselves, once all have saved."""
        for member in [member for member, pod in job.pods.items() if not pod.told]:
            self.cluster.end_pod(job, self.cluster.sigterm_exit, member, told=True)

    def lost(self, job: Job, *, silent: bool = False) -> None:
        """Let the peers of a member that has stopped fail after a while, or hang."""
        seconds = self.times_out_after if silent or not job.begun else self.fails_after
        if job.is_gang and seconds is not None:
            self.cluster.clock.after(seconds, lambda: self._fail(job))

    def _fail(self, job: Job) -> None:
        for member in list(job.pods):
            self.cluster.end_pod(job, self.exit_code, member)

    def stop_seconds(self, job: Job, pod: Pod, grace: float | None = None) -> float:
        """Return how long a pod takes to stop: one that hangs for want of a peer ignores SIGTERM until SIGKILL."""
        if not job.is_gang or not pod.runs or job.trains:
            return self.cluster.stop_seconds
        if grace is not None:
            return grace
        spec = job.request.job_template.get("spec", {}).get("template", {}).get("spec", {})
        return float(spec.get("terminationGracePeriodSeconds", GRACE_SECONDS))
