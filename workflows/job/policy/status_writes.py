"""When a job's status is written: what people wait for at once, all else together with what follows soon."""

from datetime import datetime, timedelta

from api.messages import JOINING
from api.spot_instance_job import SpotInstanceJobStatus
from workflows.job.state.job import JobState

QUIET = timedelta(seconds=30)
"""The time after a write in which changes are collected for the next one."""


def is_urgent(written: SpotInstanceJobStatus | None, state: JobState) -> bool:
    """True if people are warned, or if what they and their scripts wait for has changed since the last write.

    That is a condition's status, the answer to a request, or the number of running replicas.
    """
    if written is None or any(event.type == "Warning" for event in state.events):
        return True
    now = {kind: each.status for kind, each in state.conditions.items()}
    running = sum(each.phase == "Running" and not each.proof for each in state.replicas.values())
    told = {each.type: each.status for each in written.conditions}
    return (told, written.request, written.active_replicas) != (now, state.requests.annotation, running)


def failed_joins(state: JobState) -> frozenset[tuple[str, str]]:
    """Name the machines that do not join as they should, each with the reason.

    The message that says so may be replaced within seconds, so it has to be written before.
    """
    reports = [vm.report for vm in state.vms.values() if vm.report]
    return frozenset((each.key, each.reason) for each in reports if each.stage in JOINING and each.reason)


def is_quiet(written_at: datetime | None, now: datetime) -> bool:
    """True if the last write was just before."""
    return written_at is not None and now < written_at + QUIET


def is_progress_alone(written: SpotInstanceJobStatus, status: SpotInstanceJobStatus) -> bool:
    """True if nothing has changed but how far the trainings are, what they cost, and what is past."""
    return _without_progress(status) == _without_progress(written)


def _without_progress(status: SpotInstanceJobStatus) -> SpotInstanceJobStatus:
    entries = [entry.model_copy(update={"progress": None}) for entry in status.job_statuses]
    return status.model_copy(update={"job_statuses": entries, "cost": None, "history": []})
