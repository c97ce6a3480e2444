from datetime import UTC, datetime

import pytest

from api.market import Candidate
from api.messages import VmReport
from api.spot_instance_vm import OnDemandFallback
from workflows.job.machines.policy.on_demand import dearer_than_on_demand, may_fall_back
from workflows.job.state.vm import Vm

FALLBACK = OnDemandFallback(after="30m", max_replicas=1, price_per_hour="0.5")


def vm(key: str, *, price: float | None = None, on_demand: bool = False, stage: str = "Ready", **fields: bool) -> Vm:
    provisioning = "OnDemand" if on_demand else "Spot"
    candidate = Candidate(zone="z-a", machine_type="n1-standard-4", provisioning=provisioning)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    report = VmReport(key=key, number=1, stage=stage, at=now, candidate=candidate, price=price)
    return Vm(key=key, replica=0, report=report, **fields)


def test_without_a_fallback_nobody_gets_on_demand() -> None:
    assert not may_fall_back(vm("a"), [], None)


@pytest.mark.parametrize(
    ("other", "granted"),
    [
        (vm("b", on_demand=True), False),
        (Vm(key="b", replica=1, on_demand=True), False),  # it may still become one
        (vm("b"), True),  # it runs on spot, and returns its grant
        (vm("b", on_demand=True, stage="Gone"), True),
    ],
)
def test_on_demand_is_granted_to_so_many_as_the_spec_says(other: Vm, granted: bool) -> None:
    mine = Vm(key="a", replica=0)
    assert may_fall_back(mine, [mine, other], FALLBACK) is granted


def test_who_is_sought_to_bring_a_replica_back_stays_on_spot() -> None:
    assert not may_fall_back(Vm(key="a", replica=0, spot_only=True), [], FALLBACK)


@pytest.mark.parametrize(
    ("vms", "told"),
    [
        ([vm("a", price=0.3), vm("b", price=0.3)], True),
        ([vm("a", price=0.2), vm("b", price=0.3)], False),  # not more, but as much
        ([vm("a", price=0.6)], False),  # a single one costs what one copy costs
        ([vm("a", price=0.3), vm("b")], False),
        ([vm("a", price=0.3), vm("b", price=0.3, stage="Gone")], False),
        ([vm("a", price=0.3), vm("b", price=0.5, on_demand=True)], False),
    ],
)
def test_two_spot_vms_may_be_dearer_than_one_on_demand(vms: list[Vm], told: bool) -> None:
    assert (dearer_than_on_demand(vms, FALLBACK) is not None) is told


def test_without_a_price_of_on_demand_nothing_is_compared() -> None:
    fallback = FALLBACK.model_copy(update={"price_per_hour": None})
    assert dearer_than_on_demand([vm("a", price=3), vm("b", price=3)], fallback) is None
