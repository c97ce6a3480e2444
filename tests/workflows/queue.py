"""The world's queue. Like Kueue, it holds each Job with its label until there is quota."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.workflows.cluster_objects import Job

if TYPE_CHECKING:
    from tests.workflows.cluster import Cluster

ADMIT_SECONDS = 0.4


class Queue:
    """A queue with room for ``quota`` Jobs at once; with ``all_jobs`` it also manages those without a label."""

    def __init__(self, cluster: Cluster, *, quota: int = 0, all_jobs: bool = False) -> None:
        self.cluster = cluster
        self.quota = quota
        self.all_jobs = all_jobs
        self.admitted: list[Job] = []

    def takes(self, job: Job) -> None:
        """Suspend a Job of this queue in the moment of its creation, as the webhook does."""
        if job.queue or self.all_jobs:
            job.suspended = True
            self.cluster.clock.after(ADMIT_SECONDS, self.admit)

    def admit(self) -> None:
        """Admit the oldest Jobs for which there is quota, and look again later."""
        jobs = self.cluster.jobs
        self.admitted = [job for job in self.admitted if jobs.get(job.key) is job and not job.failed]
        waiting = [job for job in jobs.values() if job.suspended and (job.queue or self.all_jobs) and not job.deleting]
        for job in waiting[: max(0, self.quota - len(self.admitted))]:
            self.admitted.append(job)
            self.cluster.admit(job)
        if waiting:
            self.cluster.clock.after(ADMIT_SECONDS, self.admit)

    def give(self, quota: int) -> None:
        """Set the quota from now on."""
        self.quota = quota
        self.cluster.clock.after(ADMIT_SECONDS, self.admit)

    def preempt(self, job: Job) -> None:
        """Give the quota of this Job to one of higher priority."""
        self.quota -= 1
        self.admitted.remove(job)
        self.cluster.hold(job, "kueue")
