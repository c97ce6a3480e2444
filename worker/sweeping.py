"""The sweep's Schedule, which also says to which cluster a Temporal namespace belongs."""

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
from worker.settings import Settings


class WrongClusterError(Exception):
    """The Temporal namespace belongs to another cluster."""


async def ensure_schedule(client: Client, settings: Settings, cluster_id: str) -> None:
    """Create the Schedule, or bring it up to date where it is this cluster's.

    Raises:
        WrongClusterError: another cluster's id is found; two clusters in one namespace would sweep each other's VMs.
    """
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(
            names.SWEEP_WORKFLOW,
            SweepRequest(cluster_id=cluster_id),
            id=names.SWEEP_SCHEDULE,
            task_queue=names.TASK_QUEUE,
            static_summary="look for VMs that no workflow looks after",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=settings.sweep_interval)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP),
    )
    handle = client.get_schedule_handle(names.SWEEP_SCHEDULE)
    try:
        await client.create_schedule(names.SWEEP_SCHEDULE, schedule, memo={"cluster": cluster_id})
        return
    except ScheduleAlreadyRunningError:
        owner = (await (await handle.describe()).memo()).get("cluster")
    if owner != cluster_id:
        raise WrongClusterError(
            f"the Temporal namespace {settings.temporal_namespace!r} belongs to the cluster {owner}, and this is "
            f"{cluster_id}: give each cluster a namespace of its own (TEMPORAL_NAMESPACE)"
        )

    def renew(_: ScheduleUpdateInput) -> ScheduleUpdate:
        return ScheduleUpdate(schedule=schedule)

    await handle.update(renew)
