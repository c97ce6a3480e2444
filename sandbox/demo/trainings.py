"""What the trainings say about their progress: their logs, followed line by line with ``kubectl logs -f``."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Container
from dataclasses import dataclass, field

from sandbox.demo.observer import LABEL_INCARNATION, LABEL_JOB, LABEL_REPLICA, Json, Observer
from sandbox.kubectl import child

_BEGIN = re.compile(r"training from step (\d+) of (\d+)")
_STEP = re.compile(r"step=(\d+)/(\d+)")
_DONE = "training done after"
POLL_SECONDS = 0.2


@dataclass
class Training:
    """One incarnation of a replica, by the log of one of its pods. Steps are None before the first line."""

    namespace: str
    pod: str
    job_name: str
    """The name of the pod's Job."""
    job: str
    replica: int
    incarnation: int
    member: int = 0
    """The number of its pod, if several of an Indexed Job train together."""
    first: int | None = None
    """The step from which it began: 0, or that of the image from which it was restored."""
    began: float = 0.0
    """When its first line arrived (Unix time in seconds)."""
    last: int | None = None
    of: int | None = None
    done: bool = False
    lines: list[str] = field(default_factory=list)

    def read(self, line: str) -> None:
        """Read one line of the log."""
        self.began = self.began or time.time()
        self.lines.append(line)
        if found := _BEGIN.search(line):
            self.first, self.of = int(found[1]), int(found[2])
            self.last = max(self.last or 0, self.first)
        elif found := _STEP.search(line):
            self.last, self.of = int(found[1]), int(found[2])
            if self.first is None:  # restored with its memory, it does not report a beginning
                self.first = self.last - 1
        elif _DONE in line:
            self.done = True


class Trainings:
    """Every training of every job in one cluster, or in some of its ``namespaces``."""

    def __init__(self, observer: Observer, namespaces: Container[str] | None = None) -> None:
        self._observer = observer
        self._namespaces = namespaces
        self._trainings: dict[str, Training] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._finder: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to follow the logs."""
        self._finder = asyncio.create_task(self._find())

    async def stop(self) -> None:
        """Stop following."""
        tasks = [task for task in (self._finder, *self._tasks.values()) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def of(self, job: str) -> list[Training]:
        """Return the trainings of a job, by its id, in the order of replicas, incarnations and members."""
        mine = [each for each in self._trainings.values() if each.job == job]
        return sorted(mine, key=lambda each: (each.replica, each.incarnation, each.member))

    def newest(self, job: str, replica: int, member: int = 0) -> Training | None:
        """Return the last incarnation of a replica that has written something, by the log of one of its pods."""
        mine = [each for each in self.of(job) if (each.replica, each.member) == (replica, member)]
        return mine[-1] if mine else None

    def furthest(self, job: str) -> int:
        """Return the highest step that any of them has ever reported."""
        return max((each.last or 0 for each in self.of(job)), default=0)

    def wants_more(self, training: Training) -> bool:
        """True if a log that ended has to be read again: one without a line was read too early."""
        return not training.lines

    async def _find(self) -> None:
        while True:
            for pod in self._observer.all("pods"):
                uid = pod["metadata"]["uid"]
                if uid not in self._tasks and self._is_ours(pod):
                    self._tasks[uid] = asyncio.create_task(self._follow(uid, pod))
            await asyncio.sleep(POLL_SECONDS)

    def _is_ours(self, pod: Json) -> bool:
        if self._namespaces is not None and pod["metadata"]["namespace"] not in self._namespaces:
            return False
        begun = pod["status"].get("phase") in ("Running", "Succeeded", "Failed")
        return begun and LABEL_JOB in pod["metadata"].get("labels", {})

    async def _follow(self, uid: str, pod: Json) -> None:
        metadata, labels = pod["metadata"], pod["metadata"]["labels"]
        training = Training(
            namespace=metadata["namespace"],
            pod=metadata["name"],
            job_name=labels.get("batch.kubernetes.io/job-name", ""),
            job=labels[LABEL_JOB],
            replica=int(labels[LABEL_REPLICA]),
            incarnation=int(labels[LABEL_INCARNATION]),
            member=int(labels.get("batch.kubernetes.io/job-completion-index", 0)),
        )
        self._trainings[uid] = training
        # A restored container's log may begin with that of the dumped container.
        since = f"--since-time={metadata['creationTimestamp']}"
        command = ("logs", "--follow", since, "--namespace", training.namespace, training.pod)
        while self.wants_more(training) and any(each["metadata"]["uid"] == uid for each in self._observer.all("pods")):
            async with child(self._observer.kubeconfig, *command) as process:
                assert process.stdout is not None
                async for line in process.stdout:
                    training.read(line.decode(errors="replace").rstrip())
            await asyncio.sleep(POLL_SECONDS)
