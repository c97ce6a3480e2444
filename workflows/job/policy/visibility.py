"""The search attributes by which a job's workflow is found. Pure, and few: each change is a billed action."""

from typing import Literal

from api import conditions, reasons
from api import search_attributes as names
from api.common import Condition
from api.messages import JobStart
from api.overview import CHECKS, DELETED, blocker_of
from api.search_attributes import Values
from api.spot_instance_job import SpotInstanceJobStatus
from workflows.job.state.job import JobState

Phase = Literal[
    "Preparing",  # nothing is begun: its specs, or what they need, are being looked at
    "Queued",
    "Seeking",  # no replica runs, and none has a machine
    "Starting",  # none runs, and at least one has a machine
    "Running",  # at least one replica runs
    "Ending",  # what has ended is being judged, or its machines are let go of
    "Suspending",
    "Suspended",
    "Deleting",
    "Completed",
    "Failed",
]
"""The phase of a job as a whole. While one of several replicas runs, the others change nothing here."""

_PHASES: dict[Phase, frozenset[str]] = {
    "Starting": frozenset({"Joining", "NodeReady", "Restoring", "Starting"}),
    "Seeking": frozenset({"Pending", "Preempted", "Provisioning"}),
    "Queued": frozenset({"Queued"}),
}
"""The phases of replicas that make up a phase of the job; the furthest counts."""


def found_by(start: JobStart, state: JobState, status: SpotInstanceJobStatus) -> Values:
    """Compute all values; an attribute that is not among them is to be unset."""
    told = {condition.type: condition for condition in status.conditions}
    doing = phase(status, told)
    values: Values = {
        names.JOB_ID: start.job_id,
        names.NAMESPACE: start.namespace,
        names.JOB: start.name,
        names.PHASE: doing,
        names.ON_DEMAND: any(vm.runs_on_demand and not vm.gone for vm in state.vms.values()),
    }
    if (waits := waits_for(status, told, doing)) is not None:
        values[names.WAITS_FOR] = waits
    return values


def phase(status: SpotInstanceJobStatus, told: dict[str, Condition]) -> Phase:
    """Name what the job as a whole is doing."""
    if end := _end(told):
        return end
    suspended = told.get(conditions.SUSPENDED)
    if suspended is not None and suspended.reason != reasons.RESUMED:
        return "Suspended" if suspended.status == "True" else "Suspending"
    if not status.job_statuses:
        return "Preparing"
    if status.active_replicas:
        return "Running"
    phases = {entry.phase for entry in status.job_statuses}
    return next((name for name, of_replicas in _PHASES.items() if phases & of_replicas), "Ending")


def _end(told: dict[str, Condition]) -> Phase | None:
    running = told.get(conditions.RUNNING)
    if running is not None and running.status == "False" and running.reason in DELETED:
        return "Deleting"
    ends: tuple[Literal["Failed", "Completed"], ...] = ("Failed", "Completed")
    return next((end for end in ends if end in told and told[end].status == "True"), None)


def waits_for(status: SpotInstanceJobStatus, told: dict[str, Condition], doing: Phase) -> str | None:
    """Name the condition that says what the job waits for; None if nothing is known to keep it."""
    if doing == "Preparing":
        needed = (kind for kind in ("Accepted", *CHECKS) if kind in told)
        return next((kind for kind in needed if told[kind].status != "True"), None)
    if doing in ("Queued", "Seeking", "Starting"):
        blocker = blocker_of(status.job_statuses, told)
        return blocker.type if blocker else None
    return None
