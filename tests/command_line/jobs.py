"""Jobs as the API server has them, for the command line to tell of."""

from datetime import UTC, datetime
from typing import Any

from api.cost import CostStatus, MachineCost
from api.report import IncarnationRecord
from api.spot_instance_job import JobStatusEntry, SpotInstanceJobStatus

Json = dict[str, Any]
START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def at(minute: int) -> datetime:
    """Return the time so many minutes after a job's creation."""
    return START.replace(hour=12 + minute // 60, minute=minute % 60)


HISTORY = [
    IncarnationRecord(replica=0, incarnation=0, node="vm-a", started_at=at(5), ended_at=at(60), why_ended="Preempted"),
    IncarnationRecord(replica=1, incarnation=0, node="vm-b", started_at=at(6)),
    IncarnationRecord(replica=0, incarnation=1, node="vm-c", restored_from="bert:p12@sha256:ab", started_at=at(70)),
]
COST = CostStatus(
    usd=1,
    on_demand_usd=3,
    vm_hours=2,
    gpu_hours=2,
    machines=[MachineCost(name="vm-b", since=at(0), gpus=1, price_per_hour=0.2, on_demand_per_hour=0.6)],
    lost_seconds=90,
)


def job(name: str = "bert", **status: Any) -> Json:
    """Make a job of two replicas, one of which was preempted once."""
    entries = [
        JobStatusEntry(
            name=f"{name}-r0", replica=0, incarnation=1, phase="Running", node_name="vm-c", vm_name="vm-c",
            preemptions=1, progress=40, restored_from="bert:p12",
        ),
        JobStatusEntry(name=f"{name}-r1", replica=1, incarnation=0, phase="Running", node_name="vm-b", vm_name="vm-b"),
    ]  # fmt: skip
    given: dict[str, Any] = {
        "state": "Running 2/2",
        "job_statuses": entries,
        "history": HISTORY,
        "cost": COST,
        **status,
    }
    told = SpotInstanceJobStatus(job_id="0a1b2c3d", **given)
    return {
        "metadata": {
            "name": name, "namespace": "team", "uid": "u", "creationTimestamp": START.isoformat(),
            "resourceVersion": "1",
        },
        "spec": {},
        "status": told.model_dump(mode="json", by_alias=True, exclude_none=True),
    }  # fmt: skip
