"""What a job has cost, from its ledger and the VMs that it still has."""

from datetime import datetime

from api.cost import CostRecord, CostStatus, MachineCost
from api.messages import JobStart
from api.report import VmRecord
from workflows.job.state.job import JobState


def cost_status(state: JobState) -> CostStatus | None:
    """Return what the status says of the cost; None if no VM was ever bought for the job."""
    ledger = state.ledger.model_copy()
    present = []
    for vm in state.vms.values():
        record = vm.record(state.on_demand_fallback)
        if record is not None and vm.gone:  # a replica still has to act on its end
            ledger.sum_up(record)
        elif record is not None:
            present.append(_machine(record))
    if not present and not ledger.vm_hours:
        return None
    return CostStatus(
        usd=round(ledger.cost, 4),
        on_demand_usd=round(ledger.on_demand_cost, 4),
        vm_hours=round(ledger.vm_hours, 3),
        gpu_hours=round(ledger.gpu_hours, 3),
        vms_without_price=ledger.without_price,
        machines=sorted(present, key=lambda machine: machine.name),
        lost_seconds=round(ledger.lost_seconds, 1),
        frozen_seconds=round(ledger.frozen_seconds, 1),
    )


def cost_record(start: JobStart, state: JobState, now: datetime) -> CostRecord | None:
    """Return what is kept of the cost after the job's end; None if no VM was ever bought for it."""
    cost = cost_status(state)
    if cost is None:
        return None
    first = state.ledger.incarnations[0].started_at if state.ledger.incarnations else None
    return CostRecord.of(cost, job=start.name, job_id=start.job_id, ended=state.end, started_at=first, until=now)


def _machine(record: VmRecord) -> MachineCost:
    assert record.created_at is not None
    return MachineCost(
        name=record.name,
        since=record.created_at,
        gpus=record.gpus,
        price_per_hour=record.price_per_hour,
        on_demand_per_hour=record.on_demand_per_hour,
    )
