"""What a replica starts from: the furthest usable restore point, else the registry, else as the user says."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.views import RestorePoint
    from workflows.policy.restore import BAD_AFTER_NODES, furthest, misfit, same, usable
    from workflows.policy.stalls import holds_stall

from workflows.calls import call
from workflows.job import Job
from workflows.state import Replica
from workflows.stored import find_stored

Choice = tuple[RestorePoint | None, str]
FROM_THE_BEGINNING = "from the beginning"


class Restoring:
    """The restore points of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state

    async def choose(self, replica: Replica) -> Choice | None:
        """(what to start from or None for the original image, why); None where a person has to decide.

        Raises:
            ActivityError: the registry did not answer; a recovery waits for it rather than begin anew.
        """
        config = self.job.spec.checkpoint_config
        machine, best = self.state.fingerprint_under(replica), furthest(self._images())
        if config.mode == "Application":
            point, best = await find_stored(self.job), None
        else:
            point = furthest(self._images(), machine)
            if point is None and best is not None:
                return self._none_fits(replica, misfit(best, machine))
            point = point or await self._find_image_for(replica)
        if point is None and config.restore_from not in (None, "LatestTag"):
            return None  # what a person named is not there, or does not start: no other will do
        if point is not None:
            self._restorable()
            return point, f"from progress {point.progress:.0f}: {point.label}{_passed_over(best, point, machine)}"
        on_record = self.state.ever_checkpointed or bool(self.state.points)
        if on_record and config.on_unrestorable == "Hold":
            return None
        self._restorable()
        if replica.has_run or (replica.incarnation >= 0 and not workflow.patched("pods-start")):
            self.job.event("ColdStart", f"replica {replica.index}: nothing to restore, starts anew", warning=True)
        return None, FROM_THE_BEGINNING

    def _none_fits(self, replica: Replica, why: str) -> Choice | None:
        """Such a machine is for a start from the beginning, which a person may want or not."""
        if self.job.spec.checkpoint_config.on_unrestorable == "Hold":
            return None
        self._restorable()
        self.job.event("ColdStart", f"replica {replica.index}: no checkpoint fits its machine: {why}", warning=True)
        return None, FROM_THE_BEGINNING

    async def _find_image_for(self, replica: Replica) -> RestorePoint | None:
        """In the registry: one of ours, else what the user names."""
        wanted = self.job.spec.checkpoint_config.restore_from
        point = await self._find("Ours") if replica.incarnation >= 0 else None
        if point is None and wanted:
            point = await self._find("LatestTag" if wanted == "LatestTag" else "Image")
        return point

    def _images(self) -> list[RestorePoint]:
        return [point for point in self.state.points if point.kind == "Image"]

    async def _find(self, which: "act.Which") -> RestorePoint | None:
        config = self.job.spec.checkpoint_config
        request = act.FindImage(
            job=self.job.ref,
            config=config,
            containers=self.job.containers,
            which=which,
            cloud_credentials=self.job.spec.gcp_credentials_secret_ref,
        )
        found = (await call(act.FIND_IMAGE, request, summary=f"look into the registry: {which}")).point
        if found is None or self._known_bad(found):
            return None
        known = [point for point in self.state.points if same(point, found)]
        if known:  # another replica looked at the same moment
            return known[0]
        self.state.points.append(found)
        self.state.ever_checkpointed = self.state.ever_checkpointed or which == "Ours"
        return found

    def _known_bad(self, found: RestorePoint) -> bool:
        return any(not usable(point) and same(point, found) for point in self.state.points)

    def held(self, replica: Replica) -> str:
        """Tell why nothing can be restored, and what a person can do; gives the message."""
        config, best = self.job.spec.checkpoint_config, furthest(self.state.points)
        if best is not None and (why := misfit(best, self.state.fingerprint_under(replica))):
            message = (
                f"held: no checkpoint fits the machine of replica {replica.index}: {why}; correct the SpotInstanceVM, "
                "or set checkpointConfig.onUnrestorable: ColdStart to begin anew"
            )
            self.job.condition("Restorable", False, "NoneFits", message)
            return message
        if config.restore_from and config.restore_from != "LatestTag" and not self.state.ever_checkpointed:
            message = (
                f"held: {config.restore_from} is not there or does not start; correct checkpointConfig.restoreFrom"
            )
        else:
            message = "held: no usable checkpoint; set checkpointConfig.onUnrestorable: ColdStart to begin anew"
        self.job.condition("Restorable", False, "NoUsableCheckpoint", message)
        return message

    def fits_others(self, replica: Replica) -> bool:
        """True if there is a process image, though none that goes on on the machine of this replica."""
        best = furthest(self._images())
        return best is not None and bool(misfit(best, self.state.fingerprint_under(replica)))

    def unpinned(self, replica: Replica) -> RestorePoint | None:
        """What it would start from on its machine now, where its digests are not known."""
        point = furthest(self._images(), self.state.fingerprint_under(replica))
        return point if point is not None and not point.pinned else None

    def usable_point(self, replica: Replica) -> bool:
        """There is an image on record to start from on its machine; what is in a bucket is known only by looking."""
        return furthest(self._images(), self.state.fingerprint_under(replica)) is not None

    def _restorable(self) -> None:
        if "Restorable" in self.state.conditions:
            self.job.condition("Restorable", True, "Found")

    def proven(self, restored: RestorePoint) -> None:
        """A replica trains from it."""
        self._set_proven(restored, proven=True)
        self.job.condition("CheckpointsProven", True, "Restored", restored.label)

    def failed(self, tried: RestorePoint, node: str, *, missing: bool) -> None:
        """It did not start on this node; where the registry has it no more, on no node at all."""
        nodes = [f"missing-{count}" for count in range(BAD_AFTER_NODES)] if missing else [node]
        self._mark_failed([point for point in self.state.points if same(point, tried)], nodes)

    def broke(self, tried: RestorePoint, incarnation: str, why: str) -> None:
        """A training ended soon after its restore: what was dumped of it meanwhile is no better than its image."""
        self.failed(tried, incarnation, missing=False)
        self._set_proven(tried, proven=False)
        self._give_up(incarnation, [point for point in self.state.points if point.lineage == incarnation])
        self.job.condition("CheckpointsProven", False, "EndedAfterRestore", f"{tried.label}: {why}")

    def hung(self, replica: Replica) -> None:
        """A training has come to stand still: what was dumped of it since would only stand still, too."""
        doubtful = [point for point in self.state.points if holds_stall(point, replica)]
        self._give_up(f"{replica.index}.{replica.incarnation}", doubtful)

    def _give_up(self, incarnation: str, points: list[RestorePoint]) -> None:
        """Images of this incarnation are of no use on any machine."""
        marks = [f"dumped-of-{incarnation}-{count}" for count in range(BAD_AFTER_NODES)]
        self._mark_failed(points, marks)

    def _mark_failed(self, points: list[RestorePoint], where: list[str]) -> None:
        self.state.points = [
            point.model_copy(update={"failed_on": [*point.failed_on, *where]}) if point in points else point
            for point in self.state.points
        ]

    def _set_proven(self, which: RestorePoint, *, proven: bool) -> None:
        self.state.points = [
            point.model_copy(update={"proven": proven}) if same(point, which) else point for point in self.state.points
        ]


def _passed_over(best: RestorePoint | None, chosen: RestorePoint, machine: dict[str, str]) -> str:
    """Why it is not the furthest of all."""
    if best is None or best.progress <= chosen.progress or not (why := misfit(best, machine)):
        return ""
    return f"; progress {best.progress:.0f} does not fit this machine: {why}"
