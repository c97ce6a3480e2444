"""The content of the job's report."""

import hashlib
import json
from datetime import datetime

from api.messages import JobStart
from api.report import JobReport, ReplicaRecord
from api.spot_instance_job import SpotInstanceJobSpec
from workflows.job.state.job import JobState
from workflows.job.state.replica import Replica


def job_report(start: JobStart, spec: SpotInstanceJobSpec, state: JobState, now: datetime) -> JobReport:
    """Sum up a job that has ended."""
    ledger = state.ledger.model_copy(deep=True)
    for vm in state.vms.values():  # the state still knows them, so they are not in the ledger yet
        if (record := vm.record(state.on_demand_fallback)) is not None:
            ledger.add_vm(record)
    document = json.dumps(spec.model_dump(mode="json", by_alias=True), sort_keys=True)
    return JobReport(
        namespace=start.namespace,
        name=start.name,
        uid=start.uid,
        job_id=start.job_id,
        cluster_id=start.cluster_id,
        spec_sha256=hashlib.sha256(document.encode()).hexdigest(),
        spot_instance_vm=spec.spot_instance_vm_ref.name,
        ended=state.end,
        written_at=now,
        conditions=sorted(state.conditions.values(), key=lambda condition: condition.type),
        replicas=[_replica(replica) for _, replica in sorted(state.replicas.items())],
        checkpoints=state.checkpoint_number,
        vms=ledger.vms,
        vms_before=ledger.vms_before,
        incarnations=ledger.incarnations,
        incarnations_before=ledger.incarnations_before,
        vm_hours=round(ledger.vm_hours, 3),
        estimated_cost=round(ledger.cost, 4),
        on_demand_cost=round(ledger.on_demand_cost, 4),
        gpu_hours=round(ledger.gpu_hours, 3),
        vms_without_price=ledger.without_price,
        lost_seconds=round(ledger.lost_seconds, 1),
        frozen_seconds=round(ledger.frozen_seconds, 1),
    )


def _replica(replica: Replica) -> ReplicaRecord:
    return ReplicaRecord(
        replica=replica.index,
        outcome=replica.outcome,
        incarnations=replica.incarnation + 1,
        restarts=replica.restarts,
        preemptions=replica.preemptions,
        progress=replica.run.reading,
        last_checkpoint=replica.last_checkpoint_image,
        last_checkpoint_at=replica.last_checkpoint_time,
        log=replica.log,
    )
