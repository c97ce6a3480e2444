"""The watch for preempted machines: a real Temporal service, a real API server, the emulated GCE."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.testing import ActivityEnvironment

from activities.signatures import Asker, WatchPreempted
from activities.temporal.preemptions import PreemptionActivities
from api import names
from api.common import SecretReference
from api.market import PREEMPTED
from api.messages import PreemptionNotice
from tests.activities.fleet_setting import ZONE, Fleet, fleet
from tests.activities.world import eventually, run

__all__ = ["fleet"]

REVOKED = Asker(namespace="default", credentials=SecretReference(name="revoked"))


def watch(fleet: Fleet, **changes: Any) -> WatchPreempted:
    """A watch that reads often, and all that happened since a test on a busy machine may have begun."""
    usual = WatchPreempted(
        project=fleet.project,
        zones=[ZONE],
        since=datetime.now(UTC) - timedelta(seconds=300),
        askers=[Asker(namespace="default")],
        every=0.1,
        seconds=0.3,
    )
    return usual.model_copy(update=changes)


async def bought(fleet: Fleet) -> str:
    """A VM whose workflow is open."""
    await run(fleet.activities.ensure_vm, fleet.start)
    name = await fleet.buy()
    compute = await fleet.cloud.open(None, "default")

    async def runs() -> bool | None:
        found = await compute.get(fleet.project, ZONE, name)
        return found is not None and found.status == "RUNNING"

    await eventually("the VM to run", runs)
    return name


async def notices(fleet: Fleet) -> list[PreemptionNotice]:
    """What the VM's workflow was told."""
    history = await fleet.temporal.get_workflow_handle(names.vm_workflow_id(fleet.key)).fetch_history()
    signals = [
        event.workflow_execution_signaled_event_attributes
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    ]
    payloads = [each.input.payloads for each in signals if each.signal_name == "preemption_notice"]
    return [(await fleet.temporal.data_converter.decode(each, [PreemptionNotice]))[0] for each in payloads]


async def test_a_vm_is_told_once_of_its_preemption(fleet: Fleet) -> None:
    name, activities = await bought(fleet), PreemptionActivities(fleet.temporal, fleet.cloud)
    environment = ActivityEnvironment()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(environment.run(activities.watch_preempted, watch(fleet, seconds=600)))
        group.create_task(fleet.gce.preempt(name, notice=0))
        await eventually("the notice", lambda: notices(fleet))
        environment.worker_shutdown()
    found = watching.result()
    assert await notices(fleet) == [PreemptionNotice(node=name, source=PREEMPTED)]
    assert found.looked_at is not None
    again = watch(fleet, since=found.looked_at, told=found.told, seconds=0.3)
    await run(activities.watch_preempted, again)
    assert len(await notices(fleet)) == 1


async def test_of_several_keys_one_that_may_read_is_enough(fleet: Fleet) -> None:
    name, activities = await bought(fleet), PreemptionActivities(fleet.temporal, fleet.cloud)
    await fleet.gce.preempt(name, notice=0)
    await run(activities.watch_preempted, watch(fleet, askers=[REVOKED, Asker(namespace="default")], seconds=0.3))
    assert [each.node for each in await notices(fleet)] == [name]


async def test_a_watch_that_may_not_read_says_so_and_goes_on(fleet: Fleet) -> None:
    activities = PreemptionActivities(fleet.temporal, fleet.cloud)
    found = await run(activities.watch_preempted, watch(fleet, askers=[REVOKED], seconds=0.5))
    assert found.looked_at is None, "the next watch begins where this one did"


async def test_machines_that_nobody_here_looks_after_are_no_matter(fleet: Fleet) -> None:
    name, activities = await fleet.buy(), PreemptionActivities(fleet.temporal, fleet.cloud)
    await fleet.gce.preempt(name, notice=0)
    assert (await run(activities.watch_preempted, watch(fleet, seconds=0.3))).looked_at is not None


async def test_a_worker_that_stops_ends_its_watch_at_once(fleet: Fleet) -> None:
    environment, began = ActivityEnvironment(), time.monotonic()
    activities = PreemptionActivities(fleet.temporal, fleet.cloud)
    asyncio.get_running_loop().call_later(0.5, environment.worker_shutdown)
    await environment.run(activities.watch_preempted, watch(fleet, seconds=600))
    assert time.monotonic() - began < 300
