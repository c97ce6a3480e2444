"""The watch for preempted machines: in a crowd, beside a busy service, and after a long time without machines."""

from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

from activities.signatures import MOST_TOLD, Asker, WatchedPreempted, WatchPreempted
from activities.temporal.preemptions import PreemptionActivities
from api.market import OPERATION_LAG, Candidate, PreemptedVm
from workflows.market import memory
from workflows.market.state import Bought, MarketState, Others

ZONE, NOW = "us-central1-a", datetime(2026, 3, 1, tzinfo=UTC)


class Zone:
    """A cloud that takes back many machines at once."""

    def __init__(self, machines: int, name: str = "somebody-elses") -> None:
        self.machines = machines
        self.name = name

    async def open(self, *_: Any) -> "Zone":
        return self

    async def preempted(self, project: str, zone: str, since: datetime) -> list[PreemptedVm]:
        operations = (f"systemevent-{number:032d}" for number in range(self.machines))
        return [PreemptedVm(name=self.name.format(each[-1]), zone=zone, operation=each, at=NOW) for each in operations]


class Service:
    """A Temporal service that takes only the second signal of each workflow."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.reached: list[str] = []

    def get_workflow_handle(self, workflow_id: str) -> "Handle":
        return Handle(self, workflow_id)


class Handle:
    """One workflow there."""

    def __init__(self, service: Service, workflow_id: str) -> None:
        self.service = service
        self.id = workflow_id

    async def signal(self, *_: Any, **__: Any) -> None:
        if self.id not in self.service.refused:
            self.service.refused.add(self.id)
            raise RPCError("the service is busy", RPCStatusCode.UNAVAILABLE, b"")
        self.service.reached.append(self.id)


async def watched(service: Any, zone: Any, seconds: float) -> WatchedPreempted:
    askers = [Asker(namespace="default")]
    watch = WatchPreempted(project="demo", zones=[ZONE], since=NOW, askers=askers, every=0.1, seconds=seconds)
    return await ActivityEnvironment().run(PreemptionActivities(service, zone).watch_preempted, watch)


async def test_a_vm_that_could_not_be_told_is_told_again_and_each_once() -> None:
    service = Service()
    found = await watched(service, Zone(2, "outlast-0123abcd-r0-v{}-t1"), seconds=1)
    assert sorted(service.reached) == ["vm:0123abcd-r0-v0", "vm:0123abcd-r0-v1"]
    assert found.looked_at is not None


async def test_the_result_does_not_grow_with_what_was_preempted() -> None:
    found = await watched(None, Zone(50_000), seconds=0)
    assert len(found.told) == MOST_TOLD
    assert found.told[-1].endswith("49999")


def bought(since: datetime) -> Bought:
    return Bought(name="vm", candidate=Candidate(zone=ZONE, machine_type="n1-standard-4"), since=since)


def test_what_was_preempted_before_there_was_a_machine_is_not_read() -> None:
    month_ago, hour_ago = NOW - timedelta(days=30), NOW - timedelta(hours=1)
    state = MarketState(looked_at=month_ago, bought={"a": bought(hour_ago)})
    assert memory.looked_at(state, [ZONE], NOW) == hour_ago - OPERATION_LAG
    state.bought["b"] = bought(month_ago - timedelta(days=1))
    assert memory.looked_at(state, [ZONE], NOW) == month_ago


def test_machines_outside_of_the_sample_may_be_older_than_those_in_it() -> None:
    month_ago = NOW - timedelta(days=30)
    state = MarketState(looked_at=month_ago, bought={"a": bought(NOW)}, others={ZONE: Others(count=1)})
    assert memory.looked_at(state, [ZONE], NOW) == month_ago
