"""The sweep: what nobody looks after goes, or is given back to a workflow that tears it down.

Machines are never deleted by it: their teardown runs under the VM's own workflow id, which an open workflow holds, so
that a live owner wins.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from activities.signatures import Signature
    from api.names import SWEEP_WORKFLOW, TASK_QUEUE, checkpoint_name, tag_in
    from api.sweep import Kind, SweepReport, Swept
    from workflows.policy import sweep as policy

from workflows.calls import call, explain

Found = TypeVar("Found", act.Orphans, act.OrphanedObjects, act.OrphanedClaims, act.OrphanedHolds, act.OrphanedImages)
Work = tuple[str, Callable[[], Awaitable[str | None]]]
"""An orphan's name, and what sweeps it; that gives why it could not."""


@workflow.defn(name=SWEEP_WORKFLOW)
class Sweep:
    """Run by a Schedule, one at a time, or by hand."""

    def __init__(self) -> None:
        """Begin without a finder that has failed."""
        self.failed: dict[Kind, str] = {}

    @workflow.run
    async def run(self, request: act.SweepRequest) -> SweepReport:
        """Look once, and sweep; gives what was found and done."""
        machines = await self._find(
            ("machines",), act.FIND_ORPHANS, request, "machines of this cluster without an open workflow"
        )
        objects = await self._find(
            ("CheckpointBackups", "marks"), act.FIND_ORPHANED_OBJECTS, request, "CheckpointBackups and marks of nobody"
        )
        claims = await self._find(("Leases",), act.FIND_ORPHANED_CLAIMS, request, "claims on CDI devices of nobody")
        held = await self._find(("finalizers",), act.FIND_ORPHANED_HOLDS, request, "finalizers of jobs that are gone")
        images = act.OrphanedImages()
        if request.images_after is not None:
            images = await self._find(("images",), act.FIND_ORPHANED_IMAGES, request, "images of jobs that are gone")
        if "machines" in self.failed:  # a job whose machines nobody could look for keeps its credentials
            machines = machines.model_copy(update={"unreadable": [f"machines: {self.failed['machines']}"]})
        work = {
            "machines": [self._machine(orphan) for orphan in machines.orphans],
            "CheckpointBackups": [self._checkpoint(ref) for ref in objects.checkpoints],
            "marks": [self._mark(taint) for taint in objects.taints],
            "Leases": [self._claim(claim) for claim in claims.claims],
            "finalizers": [self._hold(job, machines) for job in held.jobs],
            "images": [self._images(deletion) for deletion in images.deletions],
        }
        seen = {
            "machines": machines.seen,
            "CheckpointBackups": objects.checkpoints_seen,
            "marks": objects.taints_seen,
            "Leases": claims.seen,
            "finalizers": held.seen,
            "images": images.seen,
        }
        kinds = [Swept(kind=kind, seen=seen[kind], orphans=[name for name, _ in work[kind]]) for kind in work]
        unreadable = [*machines.unreadable, *images.unreadable]
        told = policy.summary(kinds, unreadable, request.dry_run, self.failed)
        workflow.set_current_details(told)
        stop = None if request.anyway else policy.alarm(kinds, self._by_hand(request))
        self._count(kinds, stop)
        if stop is not None:
            await self._sound(request, stop)
            told = f"ALARM, {told}"
        elif not request.dry_run:
            kinds = [await self._sweep(kind, work[kind.kind]) for kind in kinds]
        if again := policy.failed_again(self.failed, self._failed_before()):
            await self._sound(request, again)
        return SweepReport(
            summary=told,
            alarm=stop,
            dry_run=request.dry_run,
            kinds=[policy.shortened(kind) for kind in kinds],
            unreadable=unreadable,
            not_looked_for=self.failed,
        )

    async def _find(
        self, kinds: tuple[Kind, ...], finder: Signature[act.SweepRequest, Found], request: act.SweepRequest, about: str
    ) -> Found:
        """Look for orphans; a finder that fails finds nothing, and the others' finds are swept all the same."""
        try:
            return await call(finder, request, summary=about)
        except ActivityError as error:
            why = explain(error)[1]
            workflow.logger.warning("%s could not be looked for: %s", " and ".join(kinds), why)
            self.failed |= dict.fromkeys(kinds, why)
            return finder.gives()

    @staticmethod
    def _failed_before() -> Collection[Kind]:
        """The kinds whose finder failed in the sweep before this one, which the Schedule hands on."""
        before = workflow.get_last_completion_result(SweepReport)
        return before.not_looked_for if before is not None else []

    @staticmethod
    def _by_hand(request: act.SweepRequest) -> str:
        once = request.model_copy(update={"anyway": True, "dry_run": False})
        asked = once.model_dump_json(by_alias=True, exclude_none=True)
        return policy.by_hand(SWEEP_WORKFLOW, TASK_QUEUE, workflow.info().namespace, asked)

    @staticmethod
    def _count(kinds: list[Swept], stop: str | None) -> None:
        meter = workflow.metric_meter()
        gauge = meter.create_gauge("outlast_sweep_orphans", "what the last sweep found that nobody owns")
        for kind in kinds:
            gauge.set(len(kind.orphans), {"kind": kind.kind})
        meter.create_gauge("outlast_sweep_alarm", "1 where the last sweep stopped").set(int(stop is not None))

    @staticmethod
    async def _sound(request: act.SweepRequest, stop: str) -> None:
        workflow.logger.error("the sweep: %s", stop)
        if not request.namespace:
            return
        alarm = act.SweepAlarm(namespace=request.namespace, message=stop, at=workflow.now())
        try:
            await call(act.SOUND_ALARM, alarm, summary="tell what is wrong with the sweep")
        except ActivityError as error:
            workflow.logger.warning("the alarm's Event: %s", explain(error)[1])

    @staticmethod
    async def _sweep(kind: Swept, work: list[Work]) -> Swept:
        """One after the other; what fails is told, and is there for the next sweep."""
        failed = []
        for name, sweep in work:
            try:
                refused = await sweep()
            except ActivityError as error:
                refused = explain(error)[1]
            if refused is not None:
                failed.append(f"{name}: {refused}")
        return kind.model_copy(update={"swept": len(work) - len(failed), "failed": failed})

    # --- each kind

    @staticmethod
    def _machine(orphan: act.Orphan) -> Work:
        names = ", ".join(orphan.names)

        async def sweep() -> None:
            await call(act.ADOPT_ORPHAN, orphan.start, summary=f"tear down {names}")

        return names, sweep

    @staticmethod
    def _checkpoint(ref: act.CheckpointRef) -> Work:
        name = f"{ref.job.namespace}/{checkpoint_name(ref.job.name, ref.job.job_id, ref.number)}"

        async def sweep() -> str | None:
            left = await call(act.DELETE_CHECKPOINT, ref, summary=f"delete CheckpointBackup {name}")
            return "its operator's finalizer holds it; taken off by the next sweep" if left.exists else None

        return name, sweep

    @staticmethod
    def _mark(taint: act.OrphanedTaint) -> Work:
        async def sweep() -> None:
            await call(act.REMOVE_TAINT, taint, summary=f"take {taint.taint} off {taint.node.name}")

        return f"{taint.node.name} {taint.taint}={taint.value}", sweep

    @staticmethod
    def _claim(claim: act.OrphanedClaim) -> Work:
        async def sweep() -> None:
            await call(act.REMOVE_CLAIM, claim, summary=f"delete Lease {claim.name}")

        return claim.name, sweep

    @staticmethod
    def _hold(job: act.JobRef, machines: act.Orphans) -> Work:
        name = f"{job.namespace}/{job.name} ({job.job_id})"

        async def sweep() -> str | None:
            if kept := policy.needs_credentials(job.job_id, machines.jobs, machines.unreadable):
                return kept
            request = act.ReleaseFinalizers(job=job)
            await call(act.RELEASE_FINALIZERS, request, summary=f"remove the finalizers of {name}")
            return None

        return name, sweep

    @staticmethod
    def _images(deletion: act.DeleteImages) -> Work:
        tags = ", ".join(map(tag_in, deletion.images))

        async def sweep() -> str | None:
            return (await call(act.DELETE_IMAGES, deletion, summary=f"delete {tags} from the registry")).refused

        return f"{deletion.config.checkpoint_image_repo}: {tags}", sweep
