"""What a replica starts from: the furthest usable restore point, then the registry's images, then as the spec says."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import conditions, events, reasons
    from api.views import RestorePoint
    from workflows.job.checkpoints.policy.restore import BAD_AFTER_NODES, furthest, misfit, same, usable
    from workflows.job.policy.stalls import contains_stall

from workflows.common.calls import call
from workflows.common.patches import patched
from workflows.job.checkpoints.stored import find_stored
from workflows.job.core.job import Job
from workflows.job.state.replica import Replica

Choice = tuple[RestorePoint | None, str]
"""What to start from, which is None for the training image, and why."""

FROM_THE_BEGINNING = "from the beginning"


class RestorePoints:
    """Chooses among the restore points of one job, and records which of them work."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state

    async def choose(self, replica: Replica) -> Choice | None:
        """Choose what a replica starts from; None if a person has to decide.

        Raises:
            ActivityError: The registry did not answer. A recovery waits for it rather than start from the beginning.
        """
        config = self.job.spec.checkpoint_config
        machine, best = self.state.fingerprint_under(replica), furthest(self._images())
        if config.mode == "Application":
            point, best = await find_stored(self.job, machines=len(replica.members)), None
        else:
            point = furthest(self._images(), machine)
            if point is None and best is not None:
                return self._none_fits(replica, misfit(best, machine))
            point = point or await self._find_image_for(replica)
        if point is None and config.restore_from not in (None, "LatestTag"):
            return None  # the image that a person named does not exist or does not start, and no other will do
        if point is not None:
            self._restorable()
            return point, f"from progress {point.progress:.0f}: {point.label}{_why_not(best, point, machine)}"
        on_record = self.state.ever_checkpointed or bool(self.state.points)
        if on_record and config.on_unrestorable == "Hold":
            return None
        self._restorable()
        if replica.has_run or (replica.incarnation >= 0 and not patched("pods-start")):
            self.job.event(
                events.COLD_START,
                f"replica {replica.index}: nothing to restore, starting from the beginning",
                warning=True,
            )
        return None, FROM_THE_BEGINNING

    def _none_fits(self, replica: Replica, why: str) -> Choice | None:
        """Start from the beginning on a machine that no image fits, if the spec allows it; None otherwise."""
        if self.job.spec.checkpoint_config.on_unrestorable == "Hold":
            return None
        self._restorable()
        self.job.event(
            events.COLD_START, f"replica {replica.index}: no checkpoint fits its machine: {why}", warning=True
        )
        return None, FROM_THE_BEGINNING

    async def _find_image_for(self, replica: Replica) -> RestorePoint | None:
        """Find an image in the registry: one of ours, or else the one that the spec names."""
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
        found = (await call(act.FIND_IMAGE, request, summary=f"find an image in the registry: {which}")).point
        if found is None or self._known_bad(found):
            return None
        known = [point for point in self.state.points if same(point, found)]
        if known:  # another replica has found it at the same time
            return known[0]
        self.state.points.append(found)
        self.state.ever_checkpointed = self.state.ever_checkpointed or which == "Ours"
        return found

    def _known_bad(self, found: RestorePoint) -> bool:
        return any(not usable(point) and same(point, found) for point in self.state.points)

    def report_none(self, replica: Replica) -> str:
        """Report why nothing can be restored and what a person can do, and return the message."""
        config, best = self.job.spec.checkpoint_config, furthest(self.state.points)
        if best is not None and (why := misfit(best, self.state.fingerprint_under(replica))):
            message = (
                f"no checkpoint fits the machine of replica {replica.index}: {why}; correct the SpotInstanceVM, or set "
                "checkpointConfig.onUnrestorable: ColdStart to start from the beginning"
            )
            self.job.condition(conditions.RESTORABLE, False, reasons.NONE_FITS, message)
            return message
        if config.restore_from and config.restore_from != "LatestTag" and not self.state.ever_checkpointed:
            message = f"{config.restore_from} does not exist or does not start; correct checkpointConfig.restoreFrom"
        else:
            message = "no usable checkpoint; set checkpointConfig.onUnrestorable: ColdStart to start from the beginning"
        self.job.condition(conditions.RESTORABLE, False, reasons.NO_USABLE_CHECKPOINT, message)
        return message

    def fits_others(self, replica: Replica) -> bool:
        """True if there is an image, but none that fits the machine of this replica."""
        best = furthest(self._images())
        return best is not None and bool(misfit(best, self.state.fingerprint_under(replica)))

    def unpinned(self, replica: Replica) -> RestorePoint | None:
        """Return the image from which a replica would start now, if its digests are not known yet; None otherwise."""
        point = furthest(self._images(), self.state.fingerprint_under(replica))
        return point if point is not None and not point.pinned else None

    def usable_point(self, replica: Replica) -> bool:
        """True if an image on record fits the machine of this replica. Published checkpoints are not on record."""
        return furthest(self._images(), self.state.fingerprint_under(replica)) is not None

    def _restorable(self) -> None:
        if conditions.RESTORABLE in self.state.conditions:
            self.job.condition(conditions.RESTORABLE, True, reasons.FOUND)

    def proven(self, restored: RestorePoint) -> None:
        """Record that a replica trains from this restore point."""
        self._set_proven(restored, proven=True)
        self.job.condition(conditions.CHECKPOINTS_PROVEN, True, reasons.RESTORED, restored.label)

    def failed(self, tried: RestorePoint, node: str, *, missing: bool) -> None:
        """Record that a restore point did not start on this node, or on any if it is ``missing`` from the registry."""
        nodes = [f"missing-{count}" for count in range(BAD_AFTER_NODES)] if missing else [node]
        self._mark_failed([point for point in self.state.points if same(point, tried)], nodes)

    def broke(self, tried: RestorePoint, incarnation: str, why: str) -> None:
        """Record that a training ended soon after its restore. Its own images since then are no better."""
        self.failed(tried, incarnation, missing=False)
        self._set_proven(tried, proven=False)
        self._reject(incarnation, [point for point in self.state.points if point.lineage == incarnation])
        self.job.condition(conditions.CHECKPOINTS_PROVEN, False, reasons.ENDED_AFTER_RESTORE, f"{tried.label}: {why}")

    def hung(self, replica: Replica) -> None:
        """Reject the images of a training that has stalled, as far as they may contain the stall."""
        doubtful = [point for point in self.state.points if contains_stall(point, replica)]
        self._reject(f"{replica.index}.{replica.incarnation}", doubtful)

    def _reject(self, incarnation: str, points: list[RestorePoint]) -> None:
        """Record that these images of an incarnation are of no use on any machine."""
        marks = [f"dumped-of-{incarnation}-{count}" for count in range(BAD_AFTER_NODES)]
        self._mark_failed(points, marks)

    def _mark_failed(self, points: list[RestorePoint], nodes: list[str]) -> None:
        self.state.points = [
            point.model_copy(update={"failed_on": [*point.failed_on, *nodes]}) if point in points else point
            for point in self.state.points
        ]

    def _set_proven(self, which: RestorePoint, *, proven: bool) -> None:
        self.state.points = [
            point.model_copy(update={"proven": proven}) if same(point, which) else point for point in self.state.points
        ]


def _why_not(best: RestorePoint | None, chosen: RestorePoint, machine: dict[str, str]) -> str:
    """Say why the furthest image was not chosen; empty if it was."""
    if best is None or best.progress <= chosen.progress or not (why := misfit(best, machine)):
        return ""
    return f"; progress {best.progress:.0f} does not fit this machine: {why}"
