"""What the bridge counts of jobs and VMs, for metrics."""

import asyncio
import contextlib
import tracemalloc
from typing import Any

from api import metrics
from api.conditions import CAPACITY_AVAILABLE, CHECKPOINTS_SUCCEED
from crd_bridge.gauges import Gauges
from tests.simulation.meter import Meter

Json = dict[str, Any]
NOW = 1_800_000_000.0
AN_HOUR_AGO = "2027-01-15T07:00:00Z"
MANY = 1000


def job(
    namespace: str = "team", active: int = 0, conditions: dict[str, tuple[str, str]] | None = None, **more: Any
) -> Json:
    told = [{"type": kind, "status": status, "reason": reason} for kind, (status, reason) in (conditions or {}).items()]
    status = {"conditions": told, "activeReplicas": active, "replicas": 1, **more}
    return {"metadata": {"namespace": namespace, "name": "train"}, "status": status}


def vm(*machines: tuple[str, str]) -> Json:
    entries = [{"name": "a", "provisioning": market, "state": stage} for market, stage in machines]
    return {"metadata": {"namespace": "team", "name": "t4"}, "status": {"provisionedInstances": entries}}


def counted(meter: Meter, metric: metrics.Metric, **labels: str) -> float:
    assert meter.labels(metric.name) <= set(metric.labels)
    return sum(meter.of(metric.name, **labels))


def test_jobs_are_counted_by_namespace_and_state() -> None:
    meter = Meter()
    gauges = Gauges(meter)
    gauges.job("team/new", {"metadata": {"namespace": "team", "name": "new"}})
    gauges.job("team/a", job(active=1))
    gauges.job("team/b", job(active=1, conditions={"Recovering": ("True", "Preempted")}))
    gauges.job("other/c", job("other", conditions={"Completed": ("True", "Completed")}))
    gone = job("other", active=1)
    gone["metadata"]["deletionTimestamp"] = "2027-01-15T07:00:00Z"
    gauges.job("other/d", gone)
    gauges.update()
    for namespace, state in [
        ("team", "Waiting"), ("team", "Running"), ("team", "Recovering"), ("other", "Completed"), ("other", "Deleting")
    ]:  # fmt: skip
        assert counted(meter, metrics.JOBS, job_namespace=namespace, state=state) == 1
    gauges.job("team/a", None)
    gauges.update()
    assert counted(meter, metrics.JOBS, state="Running") == 0
    assert counted(meter, metrics.JOBS) == 4


def test_a_server_that_does_not_answer_a_check_is_a_problem() -> None:
    meter = Meter()
    gauges = Gauges(meter)
    gauges.job("team/a", job(conditions={"RegistryReady": ("Unknown", "Unreachable")}))
    gauges.update()
    assert counted(meter, metrics.JOB_PROBLEMS, condition="RegistryReady", reason="Unreachable") == 1


def test_a_problem_is_counted_by_its_condition_and_reason_as_long_as_there_is_one() -> None:
    meter = Meter()
    gauges = Gauges(meter)
    waits = {CAPACITY_AVAILABLE: ("False", "NoCapacity"), "Queued": ("True", "Gated"), "Stable": ("True", "Ran")}
    gauges.job("team/a", job(conditions=waits))
    gauges.job("team/b", job(active=1, conditions={CHECKPOINTS_SUCCEED: ("False", "CheckpointFailed")}))
    ended = {"Failed": ("True", "DeadlineExceeded"), CAPACITY_AVAILABLE: ("False", "NoCapacity")}
    gauges.job("team/c", job(conditions=ended))
    gauges.update()
    assert counted(meter, metrics.JOB_PROBLEMS, condition=CAPACITY_AVAILABLE, reason="NoCapacity") == 1
    assert counted(meter, metrics.JOB_PROBLEMS, condition="Queued", reason="Gated") == 1
    assert counted(meter, metrics.JOB_PROBLEMS, condition=CHECKPOINTS_SUCCEED, reason="CheckpointFailed") == 1
    assert counted(meter, metrics.JOB_PROBLEMS) == 3
    gauges.job("team/a", job(active=1, conditions={CAPACITY_AVAILABLE: ("True", "Provisioned")}))
    gauges.update()
    assert counted(meter, metrics.JOB_PROBLEMS) == 1


def test_the_oldest_checkpoint_of_what_trains_grows_older() -> None:
    meter, now = Meter(), [NOW]
    gauges = Gauges(meter, lambda: now[0])
    gauges.job("team/a", job(active=1, lastCheckpointTime="2027-01-15T07:30:00Z"))
    gauges.job("team/b", job(active=1, lastCheckpointTime=AN_HOUR_AGO))
    gauges.job("team/c", job(active=0, lastCheckpointTime="2026-01-15T07:30:00Z"))
    gauges.update()
    assert counted(meter, metrics.CHECKPOINT_AGE, job_namespace="team") == 3600
    now[0] += 60
    gauges.update()
    assert counted(meter, metrics.CHECKPOINT_AGE) == 3660
    gauges.job("team/a", None)
    gauges.job("team/b", None)
    gauges.update()
    assert counted(meter, metrics.CHECKPOINT_AGE) == 0


def test_what_runs_costs_so_much_an_hour() -> None:
    meter = Meter()
    gauges = Gauges(meter)
    gauges.job("team/a", job(cost={"machines": [{"pricePerHour": 0.5}, {"pricePerHour": 1.25}, {"name": "unknown"}]}))
    gauges.job("other/b", job("other", cost={"usd": 3.0}))
    gauges.update()
    assert counted(meter, metrics.COST_PER_HOUR, job_namespace="team") == 1.75
    assert counted(meter, metrics.COST_PER_HOUR, job_namespace="other") == 0


def test_vms_are_counted_by_provisioning_and_stage() -> None:
    meter = Meter()
    gauges = Gauges(meter)
    gauges.vm("team/t4", vm(("Spot", "Ready"), ("Spot", "Ready"), ("OnDemand", "Creating")))
    gauges.update()
    assert counted(meter, metrics.VMS, job_namespace="team", provisioning="Spot", stage="Ready") == 2
    assert counted(meter, metrics.VMS, provisioning="OnDemand", stage="Creating") == 1
    gauges.vm("team/t4", vm())
    gauges.vm("team/t4", None)
    gauges.update()
    assert counted(meter, metrics.VMS) == 0


async def test_a_bridge_that_no_longer_acts_counts_nothing() -> None:
    meter = Meter()
    gauges = Gauges(meter)
    gauges.job("team/a", job(active=1, lastCheckpointTime=AN_HOUR_AGO))
    task = asyncio.create_task(gauges.kept())
    await asyncio.sleep(0)
    assert counted(meter, metrics.JOBS) == 1
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert all(sum(values) == 0 for values in meter.values.values())


def test_little_is_kept_of_each_job() -> None:
    gauges = Gauges(Meter())
    items = [job(active=1, lastCheckpointTime=AN_HOUR_AGO) for _ in range(MANY)]
    keys = [f"team/{number}" for number in range(MANY)]  # the bridge has them anyway
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for key, item in zip(keys, items, strict=True):
            gauges.job(key, item)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / MANY < 300
