"""The members of a gang, as they are seen from outside: their machines, their logs, and what they have saved."""

from __future__ import annotations

from collections import Counter

from sandbox.demo.trainings import Training
from tests.e2e.rig import Rig, Running
from tests.e2e.test_saves_itself import published

INDEX = "batch.kubernetes.io/job-completion-index"


class Members:
    """The members of a job's only replica."""

    def __init__(self, job: Running) -> None:
        self.job = job

    def machines(self, incarnation: int) -> dict[int, str]:
        """Return the machines of an incarnation's pods, also of those that are gone."""
        found: dict[int, str] = {}
        for change in self.job.observer.history:
            labels = change.object["metadata"].get("labels") or {}
            whose = [labels.get(f"training.dcnlab.com/{name}") for name in ("job", "incarnation")]
            if change.kind == "pods" and whose == [self.job.id, str(incarnation)]:
                found[int(labels[INDEX])] = change.object["spec"].get("nodeName", "")
        return found

    def logs(self, incarnation: int) -> list[Training]:
        """Return the logs of an incarnation, also of those that have ended."""
        return [each for each in self.job.trainings.of(self.job.id) if each.incarnation == incarnation]

    async def train(self, incarnation: int, size: int, seconds: float = 180) -> list[Training]:
        """Wait until all members of an incarnation train, and return their logs."""

        def all_train() -> bool:
            steps = [each for each in self.logs(incarnation) if each.last is not None and each.last > (each.first or 0)]
            return len(steps) == size and self.job.phase(0) == "Running"

        await self.job.until(all_train, seconds, f"incarnation {incarnation} to train with {size} members")
        return self.logs(incarnation)


async def saves(rig: Rig, job: Running, incarnation: int) -> dict[int, int]:
    """Count the members that have saved each step of an incarnation, by what is in the bucket."""
    directory = f"e2e/{job.id}/checkpoints/r0-i{incarnation}"
    found = await published(rig, directory, r"(\d{12}/outlast-\d+-of-\d+.json)")
    return Counter(int(each.partition("/")[0]) for each in found)


def complete(steps: dict[int, int], size: int) -> list[int]:
    """List the steps that so many members have saved."""
    return sorted(step for step, members in steps.items() if members == size)
