"""The story of a gang: four machines train as one, one of them is preempted, and all continue from one step."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table

from sandbox.demo.frame import NOTICE_SECONDS, Frame, require
from sandbox.demo.manifests import GANG, Samples
from sandbox.demo.narrator import Narrator
from sandbox.demo.observer import holds
from sandbox.demo.trainings import Training
from sandbox.settings import Settings

SIZE = 4
SOME_STEPS = 30
LOST = 2
"""The member whose machine is preempted."""
_SAVED = re.compile(r"saved \S+/(\d{12})$")


class GangStory(Frame):
    """Tells how a gang outlasts one of its machines."""

    def __init__(self, settings: Settings, addresses: Mapping[str, str], narrator: Narrator) -> None:
        super().__init__(settings, addresses, narrator, Samples(settings.state_dir / "demo", addresses, GANG))
        self.seconds: dict[str, float] = {}
        """The seconds from the notice to each moment."""
        self.steps_lost = 0
        self.kept: list[str] = []
        """The machines that were kept."""

    async def tell(self) -> None:
        """Tell the story: see ``Frame``."""
        await self.apply(f"a SpotInstanceJob of {SIZE} machines that train as one, and its SpotInstanceVM")
        await self._buy()
        await self._train()
        await self._lose_one()
        await self._complete()
        await self.draw()
        await self.delete("no VM, no Node, no Job, no Service is left")

    async def _buy(self) -> None:
        with self._narrator.step(f"{SIZE} spot VMs are bought in one zone, and join the cluster as nodes") as step:
            await self.observer.until(lambda: len(self.job.ready_nodes()) == SIZE, 120, f"{SIZE} nodes that are Ready")
            zones = {vm["zone"].rpartition("/")[2] for vm in self.observer.vms if vm["name"] in self.job.ready_nodes()}
            require(len(zones) == 1, f"the machines are in several zones: {', '.join(sorted(zones))}")
            step.remark = zones.pop()

    async def _train(self) -> None:
        with self._narrator.step("A process on each machine trains, and each step needs all of them"):
            await self.observer.until(lambda: self._train_for(0, SOME_STEPS), 90, "steps of all members")

    async def _lose_one(self) -> None:
        befores, machines = self._members(0), self._machines()
        vm = machines[LOST]
        with self._narrator.step(f"GCE preempts one VM, with a notice of {NOTICE_SECONDS:.0f} s") as step:
            notice = await self.preempt(vm)
            step.remark = vm
        with self._narrator.step("All members save themselves at one step, within the notice") as step:
            left = notice + NOTICE_SECONDS - time.time()
            saved = await self.observer.until(lambda: _saved_by_all(befores), left, "a save of all members")
            self.seconds["all members have saved themselves"] = time.time() - notice
            step.remark = f"step {saved}, {time.time() - notice:.1f} s after the notice"
        with self._narrator.step("Only the lost machine is replaced, and all continue from that step") as step:
            await self.observer.until(
                lambda: self._train_for(1, 1), 120, "steps of all members on their new set of machines"
            )
            self._note_times(notice, vm)
            firsts = {each.first for each in self._members(1)}
            require(firsts == {saved}, f"they continue from {firsts} instead of step {saved}")
            self.kept = sorted(set(machines.values()) & set(self._machines().values()))
            require(len(self.kept) == SIZE - 1, f"only {', '.join(self.kept) or 'none'} of the machines were kept")
            self.steps_lost = max(each.last or 0 for each in befores) - saved
            step.remark = f"step {saved}, {self.steps_lost} steps lost, {len(self.kept)} of {SIZE} machines kept"

    async def _complete(self) -> None:
        with self._narrator.step("The training is completed, by all members") as step:
            await self.observer.until(lambda: holds(self.job.object, "Completed"), 150, "condition Completed")
            done = await self.observer.until(self._done, 15, "the ends of all logs")
            step.remark = f"{done[0].last} of {done[0].of} steps"

    def _note_times(self, notice: float, lost: str) -> None:
        asked = {name: self.observer.happened("requested", name) or 0.0 for name in self._machines().values()}
        new = max(asked, key=lambda name: asked[name])
        moments = {
            "new VM asked for": asked[new],
            "new VM running": self.observer.happened("running", new),
            "all train again": max(each.began for each in self._members(1)),
            "lost VM gone": self.observer.happened("deleted", lost),
        }
        self.seconds |= {name: at - notice for name, at in moments.items() if at is not None}

    def _members(self, incarnation: int) -> list[Training]:
        return [each for each in self.trainings.of(self.job.id) if each.incarnation == incarnation]

    def _train_for(self, incarnation: int, steps: int) -> bool:
        """True if all members of an incarnation have made so many steps."""
        made = [(each.last or 0) - (each.first or 0) for each in self._members(incarnation)]
        return len(made) == SIZE and min(made) >= steps and self.job.phase(0) == "Running"

    def _machines(self) -> dict[int, str]:
        """Return the machine of each member, by the job's status."""
        return {each["member"]: each.get("vmName") or "" for each in self.job.entry(0).get("members") or []}

    def _done(self) -> list[Training]:
        """Return the logs of the members that have ended well, once they all have."""
        done = [each for each in self.trainings.of(self.job.id) if each.done]
        return done if len(done) == SIZE else []


def gang_summary(story: GangStory) -> RenderableType:
    """Format the end of the story, for a terminal or a log."""
    times = Table(title="seconds after the notice", title_justify="left", show_header=False, box=None, pad_edge=False)
    for moment, seconds in sorted(story.seconds.items(), key=lambda each: each[1]):
        times.add_row(moment, f"{seconds:.1f}")
    totals = Table(box=None, show_header=False, pad_edge=False)
    totals.add_row("steps lost", str(story.steps_lost))
    totals.add_row("machines kept", f"{len(story.kept)} of {SIZE}")
    happened = [event["what"] for event in story.observer.ledger]
    totals.add_row("VMs", f"{happened.count('running')} made, {happened.count('deleted')} deleted")
    return Group("", times, "", totals)


def _saved_by_all(trainings: list[Training]) -> int | None:
    """Return the step that all members have saved on SIGTERM; None before they have."""
    steps = [_saved(training) for training in trainings]
    return steps[0] if len(steps) == SIZE and len(set(steps)) == 1 else None


def _saved(training: Training) -> int | None:
    """Return the step that a member has saved on SIGTERM; None before it has."""
    told = next((number for number, line in enumerate(training.lines) if line.startswith("SIGTERM")), None)
    saves = training.lines[told:] if told is not None else []
    return next((int(saved[1]) for line in saves if (saved := _SAVED.search(line))), None)
