"""The sweep: it removes orphans, or hands them to a workflow that tears them down.

It never deletes a machine itself. The teardown runs under the VM's own workflow id, which only one open workflow can
have, so that a live owner wins.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from activities.signatures import Signature
    from api import metrics
    from api.names import SWEEP_WORKFLOW, TASK_QUEUE, checkpoint_name, tag_in
    from api.sweep import Kind, SweepReport, Swept
    from workflows.sweep import policy as policy

from workflows.common.calls import call, explain
from workflows.common.patches import patched
from workflows.sweep.stuck import tell_stuck

Found = TypeVar(
    "Found",
    act.Orphans,
    act.OrphanedObjects,
    act.OrphanedClaims,
    act.OrphanedFinalizers,
    act.OrphanedImages,
    act.FoundStuck,
)
Work = tuple[str, Callable[[], Awaitable[str | None]]]
"""An orphan's name and the function that removes it, which returns why it could not."""


@workflow.defn(name=SWEEP_WORKFLOW)
class Sweep:
    """One sweep. A Schedule runs them one at a time; a person may run one by hand."""

    def __init__(self) -> None:
        """Begin with no failed finder."""
        self.failed: dict[Kind, str] = {}

    @workflow.run
    async def run(self, request: act.SweepRequest) -> SweepReport:
        """Look once for orphans, remove them, and return what was found and done."""
        machines = await self._find(
            ("machines",), act.FIND_ORPHANS, request, "find machines of this cluster without an open workflow"
        )
        objects = await self._find(
            ("CheckpointBackups", "marks"),
            act.FIND_ORPHANED_OBJECTS,
            request,
            "find CheckpointBackups and preemption taints without an owner",
        )
        claims = await self._find(("Leases",), act.FIND_ORPHANED_CLAIMS, request, "find device claims without an owner")
        held = await self._find(
            ("finalizers",), act.FIND_ORPHANED_FINALIZERS, request, "find finalizers of jobs that are gone"
        )
        images = act.OrphanedImages()
        if request.images_after is not None:
            images = await self._find(
                ("images",), act.FIND_ORPHANED_IMAGES, request, "find images of jobs that are gone"
            )
        found = act.FoundStuck()
        if looks := patched("stuck-workflows"):
            found = await self._find(("workflows",), act.FIND_STUCK, request, "find workflows that do not go on")
        if "machines" in self.failed:  # the machines of a job may need its credentials, so these stay
            machines = machines.model_copy(update={"unreadable": [f"machines: {self.failed['machines']}"]})
        work = {
            "machines": [self._machine(orphan) for orphan in machines.orphans],
            "CheckpointBackups": [self._checkpoint(ref) for ref in objects.checkpoints],
            "marks": [self._taint(taint) for taint in objects.taints],
            "Leases": [self._claim(claim) for claim in claims.claims],
            "finalizers": [self._finalizers(job, machines) for job in held.jobs],
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
        summary = policy.summary(kinds, unreadable, request.dry_run, self.failed, sum(found.counts.values()))
        workflow.set_current_details(summary)
        stop = None if request.anyway else policy.alarm(kinds, self._by_hand(request))
        self._count(kinds, stop)
        if stop is not None:
            await self._sound(request, stop)
            summary = f"ALARM, {summary}"
        elif not request.dry_run:
            kinds = [await self._sweep(kind, work[kind.kind]) for kind in kinds]
        before = workflow.get_last_completion_result(SweepReport)
        if again := policy.failed_again(self.failed, before.not_looked_for if before else []):
            await self._sound(request, again)
        stuck = before.stuck if before else []
        if looks and "workflows" not in self.failed and not request.dry_run:
            stuck = await tell_stuck(found, before, partial(self._sound, request))
        return SweepReport(
            summary=summary,
            alarm=stop,
            dry_run=request.dry_run,
            kinds=[policy.shortened(kind) for kind in kinds],
            unreadable=unreadable,
            not_looked_for=self.failed,
            stuck=stuck,
            blind=before.blind if before and "workflows" in self.failed else found.blind,
        )

    async def _find(
        self, kinds: tuple[Kind, ...], finder: Signature[act.SweepRequest, Found], request: act.SweepRequest, about: str
    ) -> Found:
        """Look for orphans. A finder that fails finds nothing, and does not keep the others from being swept."""
        try:
            return await call(finder, request, summary=about)
        except ActivityError as error:
            why = explain(error)[1]
            workflow.logger.warning("cannot look for orphaned %s: %s", " and ".join(kinds), why)
            self.failed |= dict.fromkeys(kinds, why)
            return finder.gives()

    @staticmethod
    def _by_hand(request: act.SweepRequest) -> str:
        once = request.model_copy(update={"anyway": True, "dry_run": False})
        once_as_json = once.model_dump_json(by_alias=True, exclude_none=True)
        return policy.by_hand(SWEEP_WORKFLOW, TASK_QUEUE, workflow.info().namespace, once_as_json)

    @staticmethod
    def _count(kinds: list[Swept], stop: str | None) -> None:
        meter = workflow.metric_meter()
        gauge = meter.create_gauge(*metrics.SWEEP_ORPHANS.made_by)
        for kind in kinds:
            gauge.set(len(kind.orphans), {"kind": kind.kind})
        meter.create_gauge(*metrics.SWEEP_ALARM.made_by).set(int(stop is not None))
        at = meter.create_gauge(*metrics.SWEEP_AT.made_by)
        at.set(int(workflow.now().timestamp()))

    @staticmethod
    async def _sound(
        request: act.SweepRequest, message: str, reason: Literal["SweepStopped", "WorkflowStuck"] = "SweepStopped"
    ) -> None:
        workflow.logger.error("the sweep: %s", message)
        if not request.namespace:
            return
        alarm = act.SweepAlarm(namespace=request.namespace, message=message, at=workflow.now(), reason=reason)
        try:
            await call(act.SOUND_ALARM, alarm, summary="report what is wrong with the sweep")
        except ActivityError as error:
            workflow.logger.warning("the alarm's Event: %s", explain(error)[1])

    @staticmethod
    async def _sweep(kind: Swept, work: list[Work]) -> Swept:
        """Remove orphans one after the other. What fails is reported and left for the next sweep."""
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
            return "its operator's finalizer keeps it; the next sweep removes that" if left.exists else None

        return name, sweep

    @staticmethod
    def _taint(taint: act.OrphanedTaint) -> Work:
        async def sweep() -> None:
            await call(act.REMOVE_TAINT, taint, summary=f"remove taint {taint.taint} from {taint.node.name}")

        return f"{taint.node.name} {taint.taint}={taint.value}", sweep

    @staticmethod
    def _claim(claim: act.OrphanedClaim) -> Work:
        async def sweep() -> None:
            await call(act.REMOVE_CLAIM, claim, summary=f"delete Lease {claim.name}")

        return claim.name, sweep

    @staticmethod
    def _finalizers(job: act.JobRef, machines: act.Orphans) -> Work:
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
