"""The sweep's Schedule, which also says to which cluster a Temporal namespace belongs."""

from datetime import timedelta

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


async def ensure_schedule(client: Client, interval: timedelta, cluster_id: str) -> None:
    """Create the Schedule, or bring it up to date where it is this cluster's.

    Raises:
        WrongClusterError: it is another cluster's.
    """
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(
            names.SWEEP_WORKFLOW,
            SweepRequest(cluster_id=cluster_id),
            id=names.SWEEP_SCHEDULE,
            task_queue=names.TASK_QUEUE,
            static_summary="look for VMs that no workflow looks after",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=interval)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP),
    )
    try:
        await client.create_schedule(names.SWEEP_SCHEDULE, schedule, memo={"cluster": cluster_id})
        return
    except ScheduleAlreadyRunningError:
        await refuse_other_clusters(client, cluster_id)

    def renew(_: ScheduleUpdateInput) -> ScheduleUpdate:
        return ScheduleUpdate(schedule=schedule)

    await client.get_schedule_handle(names.SWEEP_SCHEDULE).update(renew)
