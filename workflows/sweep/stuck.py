"""The part of the sweep that looks for workflows which do not go on, and tells people."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import metrics
    from api.sweep import Stuck, SweepReport
    from workflows.sweep import stuck_policy as policy

from workflows.common.calls import call, explain

Sound = Callable[[str, Literal["SweepStopped", "WorkflowStuck"]], Awaitable[None]]
"""Raises the sweep's alarm, given its message and its Event's reason."""


async def tell_stuck(found: act.FoundStuck, before: SweepReport | None, sound: Sound) -> list[Stuck]:
    """Tell whoever runs Outlast and the owners of the jobs; gives what the next sweep has to know."""
    if found.blind is not None:
        if before is None or before.blind != found.blind:
            await sound(f"workflows that do not go on cannot be seen: {found.blind}", "WorkflowStuck")
        return before.stuck if before else []
    _count(found.counts)
    known, now = before.stuck if before else [], workflow.now()
    due, gone = policy.due(found.workflows, known, now), policy.well_again(found.workflows, known)
    if due:
        await sound(policy.alarm(found.workflows, found.counts), "WorkflowStuck")
    if due or gone:
        try:
            request = act.TellStuck(stuck=due, well_again=gone, at=now)
            await call(act.TELL_STUCK, request, summary="tell jobs' owners whether their workflows go on")
        except ActivityError as error:
            workflow.logger.warning("owners were not told: %s", explain(error)[1])
            return [*policy.remembered(found.workflows, known, [], now), *gone]  # the next sweep tells them
    return policy.remembered(found.workflows, known, due, now)


def _count(counts: Mapping[str, int]) -> None:
    gauge = workflow.metric_meter().create_gauge(*metrics.STUCK_WORKFLOWS.made_by)
    for kind, count in counts.items():
        gauge.set(count, {"workflow_type": kind})
