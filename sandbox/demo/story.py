"""The story of two copies of one training: first one of them loses its machine, then both at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from sandbox.demo.frame import NOTICE_SECONDS, Frame, require
from sandbox.demo.manifests import INTERVAL, NAMESPACE, Samples
from sandbox.demo.narrator import Narrator
from sandbox.demo.observer import holds
from sandbox.demo.sight import image_of, progress_of, tag_of
from sandbox.demo.trainings import Training
from sandbox.settings import Settings

MANIFEST_TYPES = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Recovery:
    """The recovery of one replica whose machine was preempted. Times are Unix times in seconds."""

    replica: int
    vm: str
    successor: str
    backup: str | None
    """The name of the survivor's CheckpointBackup, None if there was no survivor."""
    redone: int
    """The steps that the replica computes again."""
    notice: float
    trains: float


class Story(Frame):
    """Tells how two copies of one training outlast their machines."""

    def __init__(self, settings: Settings, addresses: Mapping[str, str], narrator: Narrator) -> None:
        super().__init__(settings, addresses, narrator, Samples(settings.state_dir / "demo", addresses))
        self.recoveries: list[Recovery] = []
        self.steps_lost: list[int] = []
        """For each loss: the steps done before that no replica had any more once the lost ones trained again."""
        self._checkpointed = ""
        """The pod of the first checkpoint."""

    async def tell(self) -> None:
        """Tell the story: see ``Frame``."""
        await self.apply("a SpotInstanceJob, a SpotInstanceVM and their Secrets")
        await self._buy()
        await self._train()
        await self._checkpoint()
        await self._lose_one()
        await self._lose_both()
        await self._complete()
        await self.draw()
        await self.delete("no VM, no Node, no Job, no CheckpointBackup is left")

    # --- up

    async def _buy(self) -> None:
        with self._narrator.step("Two spot VMs are bought and join the cluster as nodes") as step:
            await self.observer.until(lambda: len(self.job.ready_nodes()) == 2, 90, "two nodes that are Ready")
            nodes = self.job.ready_nodes()
            spot = {vm["name"] for vm in self.observer.vms if vm["scheduling"]["provisioningModel"] == "SPOT"}
            require(set(nodes) <= spot, f"nodes {nodes} are not the spot VMs {sorted(spot)}")
            step.remark = ", ".join(nodes)

    async def _train(self) -> None:
        with self._narrator.step("Two replicas train"):
            await self.observer.until(lambda: self.job.run(2), 60, "two replicas in phase Running")
            await self.observer.until(lambda: self.job.step(0) and self.job.step(1), 30, "steps of both trainings")

    async def _checkpoint(self) -> None:
        with self._narrator.step(f"The scheduled checkpoint, as every {INTERVAL}") as step:
            found = await self.observer.until(self.job.completed_backups, 60, "a CheckpointBackup that is Completed")
            self._checkpointed = found[0]["spec"]["podRef"]["name"]
            image = await self.observer.until(self._newest_image, 15, "status.lastCheckpointImage")
            await _must_exist(image)
            step.remark = f"image {tag_of(image)}"

    # --- losses

    async def _lose_one(self) -> None:
        # The replica that was checkpointed: if it survived, its young image would do, and no new one be requested.
        lost = 0 if self.job.training(0).pod == self._checkpointed else 1
        survivor = 1 - lost
        before, vm = self.job.training(lost), self.job.vm(lost)
        with self._narrator.step(f"GCE preempts one VM, with a notice of {NOTICE_SECONDS:.0f} s") as step:
            notice = await self.preempt(vm)
            step.remark = vm
        with self._narrator.step("The survivor is checkpointed within the notice") as step:
            pod = self.job.training(survivor).pod
            found = await self.observer.until(
                lambda: self.job.completed_backups(pod, notice),
                notice + NOTICE_SECONDS - time.time(),
                f"a Completed CheckpointBackup of {pod}, {NOTICE_SECONDS:.0f} s from the notice",
            )
            step.remark = f"image {tag_of(image_of(found[0]))}, {time.time() - notice:.1f} s after the notice"
        with self._narrator.step("The lost replica is restored from the survivor's image on a new VM") as step:
            await self._restored(lost, before, vm, notice, found[0]["metadata"]["name"])
            source = tag_of(self.job.entry(lost)["restoredFrom"])
            # The restore point with the most progress: the schedule may have made another of the survivor meanwhile.
            tags = [tag_of(image_of(each)) for each in self.job.completed_backups(pod, notice)]
            further = progress_of(source) >= max(map(progress_of, tags))  # one from just before the notice
            require(source in tags or further, f"restored from {source}, not the survivor's {', '.join(tags)}")
            self.steps_lost.append(max(0, (before.last or 0) - self.job.step(survivor)))
            step.remark = f"from step {self.job.training(lost).first}"
        with self._narrator.step("Nothing is left of the lost VM, its Node and its Job"):
            await self.observer.until(lambda: self._is_cleared(vm, before), 60, f"the end of {vm} and {before.pod}")

    async def _lose_both(self) -> None:
        befores = [self.job.training(replica) for replica in (0, 1)]
        vms = [self.job.vm(replica) for replica in (0, 1)]
        newest = await self.observer.until(self._newest_image, 15, "status.lastCheckpointImage")
        await _must_exist(newest)
        with self._narrator.step("GCE preempts both VMs at once: no survivor is left to be checkpointed"):
            notices = await asyncio.gather(*map(self.preempt, vms))
        with self._narrator.step("Both are restored from the newest image in the registry, on new VMs") as step:
            for loss in zip((0, 1), befores, vms, notices, strict=True):
                await self._restored(*loss, None)
                source = self.job.entry(loss[0])["restoredFrom"]
                await _must_exist(source)
                further = progress_of(source) >= progress_of(newest)  # one may have been finished at the last moment
                require(further, f"restored from {source}, which holds less than {tag_of(newest)}")
            reached = max(before.last or 0 for before in befores)
            restored = max(self.job.training(replica).first or 0 for replica in (0, 1))
            self.steps_lost.append(max(0, reached - restored))
            step.remark = f"from step {restored}, {self.steps_lost[-1]} steps lost"

    async def _restored(self, replica: int, before: Training, vm: str, notice: float, backup: str | None) -> None:
        """Wait until a replica trains again on another VM, and not from the beginning."""

        def trains() -> bool:
            now = self.job.training(replica)
            moved = self.job.vm(replica) not in ("", vm) and now.incarnation > before.incarnation
            return moved and self.job.phase(replica) == "Running" and now.first is not None

        await self.observer.until(trains, 90, f"replica {replica} to train again on another VM than {vm}")
        now = self.job.training(replica)
        require(bool(now.first), f"{now.pod} began from step 0 instead of continuing from an image")
        redone = (before.last or 0) - (now.first or 0)
        successor = self.job.vm(replica)
        self.recoveries.append(Recovery(replica, vm, successor, backup, max(0, redone), notice, now.began))

    # --- down

    async def _complete(self) -> None:
        with self._narrator.step("The training is completed") as step:
            await self.observer.until(lambda: holds(self.job.object, "Completed"), 150, "condition Completed")
            done = [each for each in self.trainings.of(self.job.id) if each.done]
            require(bool(done), "condition Completed, but no training said that it is done")
            step.remark = f"replica {done[0].replica}: {done[0].last} of {done[0].of} steps"

    # --- looks

    def _newest_image(self) -> str:
        return str(self.job.status.get("lastCheckpointImage") or "")

    def _is_cleared(self, vm: str, before: Training) -> bool:
        jobs = {each["metadata"]["name"] for each in self.observer.all("jobs.batch", NAMESPACE)}
        gone = vm not in {each["name"] for each in self.observer.vms}
        return gone and self.observer.get("nodes", vm) is None and before.job_name not in jobs


async def _must_exist(image: str) -> None:
    """Ask the registry for an image, by its digest if it has one, else by its tag."""
    name, _, digest = image.partition("@")
    host, _, path = name.partition("/")
    url = f"http://{host}/v2/{path.rpartition(':')[0]}/manifests/{digest or tag_of(image)}"
    async with aiohttp.ClientSession() as session, session.head(url, headers={"Accept": MANIFEST_TYPES}) as answer:
        require(answer.status == 200, f"{image} is not in the registry: HTTP {answer.status}")
