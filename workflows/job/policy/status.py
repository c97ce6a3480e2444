"""The job's state as people read it: the status of the SpotInstanceJob."""

from collections.abc import Iterable
from datetime import datetime

from api.common import Condition
from api.messages import JobStart
from api.names import job_workflow_id, replica_job_name
from api.spot_instance_job import JobStatusEntry, MemberStatus, SpotInstanceJobStatus
from workflows.job.policy.cost import cost_status
from workflows.job.state.job import JobState
from workflows.job.state.replica import Replica

TOLD = 30
"""How many of the last incarnations the status lists."""


def job_status(start: JobStart, state: JobState, now: datetime, *, with_past: bool = False) -> SpotInstanceJobStatus:
    """Return the whole status of the SpotInstanceJob. Releases up to 0.2.0 told nothing of its past and its cost."""
    meant = [replica for replica in state.replicas.values() if not replica.proof]
    checkpointed = [replica for replica in state.replicas.values() if replica.last_checkpoint_time]
    last = max(checkpointed, key=lambda replica: replica.last_checkpoint_time or now, default=None)
    return SpotInstanceJobStatus(
        conditions=_sorted(state.conditions.values()),
        replicas=len([replica for replica in meant if replica.halt != "ScaledDown"]),
        active_replicas=len([replica for replica in meant if replica.phase == "Running"]),
        started=state.started,
        last_checkpoint_time=last.last_checkpoint_time if last else None,
        last_checkpoint_image=last.last_checkpoint_image if last else None,
        job_statuses=[_entry(start, state, replica) for _, replica in sorted(state.replicas.items())],
        observed_generation=state.generation or None,
        workflow_id=job_workflow_id(start.namespace, start.name),
        job_id=start.job_id,
        request=state.requests.annotation,
        cost=cost_status(state) if with_past else None,
        history=state.ledger.incarnations[-TOLD:] if with_past else [],
    )


def _entry(start: JobStart, state: JobState, replica: Replica) -> JobStatusEntry:
    vms = [vm.report.vm_name for vm in state.vms_under(replica) if vm.report and vm.report.vm_name]
    wanted = state.spec.members if state.spec and not replica.proof else 1
    return JobStatusEntry(
        name=replica_job_name(start.name, start.job_id, replica.index, max(replica.incarnation, 0)),
        replica=replica.index,
        incarnation=max(replica.incarnation, 0),
        phase="Suspended" if replica.phase == "Released" and replica.halt == "Suspended" else replica.phase,
        message=replica.message or None,
        node_name=replica.place.listed,
        vm_name=", ".join(vms) or None,
        members=_members(state, replica) if wanted > 1 else None,
        wanted_members=wanted if wanted > 1 else None,
        restarts=replica.restarts,
        preemptions=replica.preemptions,
        disruptions=replica.disruptions or None,
        progress=replica.run.reading,
        restored_from=replica.run.restore.label if replica.run.restore else None,
        last_checkpoint_image=replica.last_checkpoint_image,
        last_checkpoint_time=replica.last_checkpoint_time,
        kept_until=replica.kept_until,
        log=replica.log,
    )


def _members(state: JobState, replica: Replica) -> list[MemberStatus]:
    """Describe the members of a gang: the phase of the pod that each has, or the stage of the machine to come."""
    found = []
    for member, seat in enumerate(replica.place.seats):
        pod, vm = replica.run.pods.get(member), state.vm(seat.vm_key)
        report = vm.report if vm else None
        stage = report.stage if report else None if seat.vm_key is None else "Creating"
        name = report.vm_name if report else None
        phase = pod.phase if pod else stage
        reading = replica.run.readings.get(member)
        progress = reading.progress if reading else None
        found.append(MemberStatus(member=member, node_name=seat.node, vm_name=name, phase=phase, progress=progress))
    return found


def _sorted(conditions: Iterable[Condition]) -> list[Condition]:
    return sorted(conditions, key=lambda condition: condition.type)
