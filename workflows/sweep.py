"""The sweep: gives VMs that nobody looks after back to a workflow that tears them down. It deletes nothing itself."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.names import SWEEP_WORKFLOW
    from workflows.calls import call
    from workflows.policy.sweep import too_many


@workflow.defn(name=SWEEP_WORKFLOW)
class Sweep:
    """Run by a Schedule, one at a time."""

    @workflow.run
    async def run(self, request: act.SweepRequest) -> str:
        """Look once; gives what was found, for the Web UI's list.

        A live owner wins: the teardown runs under the VM's own workflow id, which an open workflow holds.
        """
        found = await call(act.FIND_ORPHANS, request, summary="VMs of this cluster without an open workflow")
        told = f"{found.seen} VMs, {len(found.orphans)} orphans"
        if found.unreadable:
            told += f"; not readable: {', '.join(found.unreadable)}"
        workflow.set_current_details(told)
        if too_many(len(found.orphans), found.seen):
            workflow.logger.error("the sweep stops: %s. Does this worker look at the right Temporal namespace?", told)
            return f"ALARM, nothing was done: {told}"
        for orphan in found.orphans:
            await call(act.ADOPT_ORPHAN, orphan.start, summary=f"tear down {', '.join(orphan.names)}")
        return told
