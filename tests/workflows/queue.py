"""The world's queue: it holds each Job that bears its label until there is quota, as Kueue does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.workflows.cluster_objects import Job

if TYPE_CHECKING:
    from tests.workflows.cluster import Cluster

ADMIT_SECONDS = 0.4


class Queue:
    """A queue with room for ``quota`` Jobs at once; ``all_jobs`` if it also manages those without a label."""

    def __init__(self, cluster: Cluster, *, quota: int = 0, all_jobs: bool = False) -> None:
        self.cluster = cluster
        self.quota = quota
        self.all_jobs = all_jobs
        self.admitted: list[Job] = []

    def takes(self, job: Job) -> None:
        """As the webhook does: a Job of this queue is suspended in the moment of its creation."""
        if job.queue or self.all_jobs:
            job.suspended = True
            self.cluster.clock.after(ADMIT_SECONDS, self.admit)

    def admit(self) -> None:
        """Let in what there is quota for, the oldest first, and look again later."""
        jobs = self.cluster.jobs
        self.admitted = [job for job in self.admitted if jobs.get(job.key) is job and not job.failed]
        waiting = [job for job in jobs.values() if job.suspended and (job.queue or self.all_jobs) and not job.deleting]
        for job in waiting[: max(0, self.quota - len(self.admitted))]:
            self.admitted.append(job)
            self.cluster.admit(job)
        if waiting:
            self.cluster.clock.after(ADMIT_SECONDS, self.admit)

    def give(self, quota: int) -> None:
        """There is so much quota from now on."""
        self.quota = quota
        self.cluster.clock.after(ADMIT_SECONDS, self.admit)

    def preempt(self, job: Job) -> None:
        """A Job of higher priority gets the quota of this one."""
        self.quota -= 1
        self.admitted.remove(job)
        self.cluster.hold(job, "kueue")
