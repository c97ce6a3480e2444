"""What all stories have in common: a job that is applied, watched and deleted, and how that is told.

A story does everything as a user would: with kubectl, the sandbox's control surface and HTTP. Nothing of Outlast is
imported. Each step does or awaits one thing within a deadline, and raises an error if that does not happen.
"""

from __future__ import annotations

import asyncio
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping

from sandbox.control import ControlClient
from sandbox.demo.manifests import NAMESPACE, Samples
from sandbox.demo.narrator import Narrator, Row
from sandbox.demo.observer import Json, Observer
from sandbox.demo.sight import JobSight, tag_of
from sandbox.demo.trainings import Trainings
from sandbox.errors import SandboxError
from sandbox.settings import Settings

NOTICE_SECONDS = 30.0


class Frame(ABC):
    """Tells a story of one job from ``kubectl apply`` until nothing is left."""

    def __init__(self, settings: Settings, addresses: Mapping[str, str], narrator: Narrator, samples: Samples) -> None:
        self.observer = Observer(settings.admin_kubeconfig, ControlClient(addresses["CONTROL_URL"]))
        self.trainings = Trainings(self.observer)
        self.settings = settings
        self.samples = samples
        self.job = JobSight(self.observer, self.trainings, NAMESPACE, samples.job)
        self._narrator = narrator

    @abstractmethod
    async def tell(self) -> None:
        """Do or await one thing after the other.

        Raises:
            SandboxError: a step did not happen; the message says what was waited for.
        """

    async def run(self) -> None:
        """Tell the story while the cluster is watched.

        Raises:
            SandboxError: a step did not happen; the message says what was waited for.
        """
        self._narrator.rows = self._rows
        await self.observer.start()
        await self.trainings.start()
        news = asyncio.create_task(self._tell_news())
        try:
            await self.tell()
        finally:
            news.cancel()
            await self.trainings.stop()
            await self.observer.stop()

    async def apply(self, what: str) -> None:
        """Apply the samples, and wait until there is a workflow."""
        with self._narrator.step(f"kubectl apply: {what}"):
            for change in self.samples.write():
                self._narrator.say(f"sample edited for the sandbox: {change}")
            kubectl = self.observer.kubectl
            await kubectl("create", "namespace", NAMESPACE)
            await kubectl("apply", "--namespace", NAMESPACE, "-f", self.samples.directory)
            await self.observer.until(lambda: self.job.id, 30, "a workflow for the SpotInstanceJob (status.jobID)")

    async def preempt(self, vm: str) -> float:
        """Preempt a VM, and return when the notice came (Unix time)."""
        await self.observer.control.preempt(vm, NOTICE_SECONDS)
        return await self.observer.until(lambda: self.observer.happened("notice", vm), 10, f"the notice to {vm}")

    async def draw(self) -> None:
        """Have the command line write a page about the job, as a user would, and say where it is."""
        file = self.settings.state_dir / "demo" / "timeline.html"
        with self._narrator.step(f"outlast timeline {self.job.name} --html: {file}"):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cli", "-n", NAMESPACE, "timeline", self.job.name, "--html", file,
                env={**os.environ, "KUBECONFIG": str(self.settings.admin_kubeconfig)},
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            said, _ = await asyncio.wait_for(process.communicate(), 60)
            require(process.returncode == 0, f"outlast timeline: {said.decode().strip()}")

    async def delete(self, nothing: str) -> None:
        """Delete the samples, and wait until ``nothing`` of the job is left."""
        with self._narrator.step(f"kubectl delete: {nothing}"):
            await self.observer.kubectl("delete", "--namespace", NAMESPACE, "-f", self.samples.directory, deadline=90)
            try:
                await self.observer.until(lambda: not self.job.left_over(), 60, "nothing to be left")
            except SandboxError as error:
                raise SandboxError(f"{error}; there still is {', '.join(self.job.left_over())}") from None

    async def _tell_news(self) -> None:
        """Report the job's Events, in Outlast's own words."""
        told: set[str] = set()
        while True:
            for event in self.observer.all("events", NAMESPACE):
                uid, about = event["metadata"]["uid"], event.get("involvedObject") or event.get("regarding") or {}
                if uid not in told and about.get("kind") == "SpotInstanceJob":
                    told.add(uid)
                    self._narrator.say(f"{event.get('reason')}: {event.get('message') or event.get('note')}")
            await asyncio.sleep(0.2)

    def _rows(self) -> list[Row]:
        return [row for entry in self.job.status.get("jobStatuses") or [] for row in self._rows_of(entry)]

    def _rows_of(self, entry: Json) -> list[Row]:
        """Make a line for a replica, or for each member of a gang."""
        members = entry.get("members") or [{"member": 0, **entry}]
        return [self._row(entry, member, several=len(members) > 1) for member in members]

    def _row(self, entry: Json, member: Json, *, several: bool) -> Row:
        training = self.trainings.newest(self.job.id, entry.get("replica", -1), member["member"])
        name = f"{entry.get('replica')}.{entry.get('incarnation')}"
        return Row(
            replica=f"{name} member {member['member']}" if several else name,
            phase=member.get("phase") or "",
            machine=member.get("vmName") or member.get("nodeName") or "",
            step=f"{training.last}/{training.of}" if training and training.of else "",
            restored_from=tag_of(entry.get("restoredFrom") or ""),
            preemptions=str(entry.get("preemptions") or 0),
        )


def require(true: bool, otherwise: str) -> None:
    """Let the story fail unless something is true.

    Raises:
        SandboxError: it is not; the message says what is the case ``otherwise``.
    """
    if not true:
        raise SandboxError(otherwise)
