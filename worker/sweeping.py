"""The sweep's Schedule, which also says to which cluster a Temporal namespace belongs."""

from dataclasses import replace

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from activities.signatures import SweepRequest
from api import names
from clients.installation import refuse_other_clusters
from worker.settings import Settings


async def ensure_schedule(client: Client, settings: Settings, cluster_id: str) -> None:
    """Create the Schedule, or update this cluster's; one that a person paused stays paused.

    Raises:
        WrongClusterError: it belongs to another cluster.
    """
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(
            names.SWEEP_WORKFLOW,
            _request(settings, cluster_id),
            id=names.SWEEP_SCHEDULE,
            task_queue=names.TASK_QUEUE,
            static_summary="look for what no workflow looks after",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=settings.sweep.interval)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP),
    )
    try:
        await client.create_schedule(names.SWEEP_SCHEDULE, schedule, memo={"cluster": cluster_id})
        return
    except ScheduleAlreadyRunningError:
        await refuse_other_clusters(client, cluster_id)

    def renew(found: ScheduleUpdateInput) -> ScheduleUpdate:
        # A person decides whether it is paused, and the start of a worker is no reason to resume it.
        return ScheduleUpdate(schedule=replace(schedule, state=found.description.schedule.state))

    await client.get_schedule_handle(names.SWEEP_SCHEDULE).update(renew)


def _request(settings: Settings, cluster_id: str) -> SweepRequest:
    sweep = settings.sweep
    return SweepRequest(
        cluster_id=cluster_id,
        namespace=settings.namespace,
        grace=sweep.grace.total_seconds(),
        dry_run=sweep.dry_run,
        images_after=sweep.images_after and sweep.images_after.total_seconds(),
    )
