"""A job as a card for Temporal's Web UI: what it does, what it waits for since when, and what helps. Pure."""

from collections.abc import Iterator
from datetime import datetime

from api import reasons
from api.advice import BAD_IF_TRUE, HELPS
from api.common import Condition
from api.messages import JobStart
from api.names import vm_workflow_id
from api.overview import BLOCKERS, blocker_of, overview
from api.spot_instance_job import SpotInstanceJobStatus
from workflows.common.markdown import moment, plain
from workflows.job.checkpoints.policy.progress import training_time
from workflows.job.policy.status import job_status
from workflows.job.state.job import JobState
from workflows.job.state.replica import Replica

BEGINNING = 30
"""How many characters tell one message from another."""

LISTED = 3
"""How many machines of one replica are listed."""


def card(start: JobStart, state: JobState, now: datetime) -> str:
    """Describe the job in Markdown, for the Web UI and ``temporal workflow metadata``."""
    status = job_status(start, state, now)
    found = problems(status)
    above = found[0].message if found else ""
    lines = [
        f"### {plain(_without(overview(status).state, above))}",
        "",
        f"SpotInstanceJob **{start.namespace}/{start.name}** · id `{start.job_id}`",
    ]
    for condition in found:
        lines += ["", *_problem(condition)]
    if state.replicas:
        lines += ["", *(_replica(state, each, now, above) for _, each in sorted(state.replicas.items()))]
    if status.last_checkpoint_time is not None:
        image = status.last_checkpoint_image or ""
        lines += ["", f"Last checkpoint: {moment(status.last_checkpoint_time)} {plain(image)}".rstrip()]
    if status.conditions:
        each = (f"{condition.type} {condition.status}" for condition in status.conditions)
        lines += ["", f"Conditions: {' · '.join(each)}"]
    return "\n".join(lines)


def _without(text: str, above: str) -> str:
    """Cut off the message that stands above or below already."""
    start = text.find(": " + " ".join(above.split())[:BEGINNING]) if above else -1
    return text[:start] if start > 0 else text


def problems(status: SpotInstanceJobStatus) -> list[Condition]:
    """List the conditions that people should know of. First comes the one that says what the job waits for."""
    told = {condition.type: condition for condition in status.conditions}
    blocker = blocker_of(status.job_statuses, told)
    phases = {entry.phase for entry in status.job_statuses}
    over = {each.type for each in BLOCKERS if status.job_statuses and not phases & each.phases}
    found = [told[kind] for kind in HELPS if kind in told and kind not in over and _is_bad(told[kind])]
    return sorted(found, key=lambda condition: blocker is None or condition.type != blocker.type)


def _is_bad(condition: Condition) -> bool:
    if condition.reason in (reasons.NEVER_RESTORED, reasons.RESUMED):
        return False
    return condition.status == str(condition.type in BAD_IF_TRUE)


def _problem(condition: Condition) -> Iterator[str]:
    since = condition.last_transition_time
    yield f"**{condition.type}={condition.status}** ({condition.reason}){f' since {moment(since)}' if since else ''}"
    yield ""
    if condition.message:
        yield plain(condition.message)
        yield ""
    yield f"*What helps:* {HELPS[condition.type]}"


def _replica(state: JobState, replica: Replica, now: datetime, above: str) -> str:
    """Describe a replica in one item of a list: the card is too narrow for a table."""
    message = plain(_without(replica.message, above))
    told = [f"**replica {replica.index}**: {replica.phase}{f', {message}' if message else ''}"]
    if replica.incarnation >= 0:
        told.append(f"incarnation {replica.incarnation} {_origin(replica)}")
    told.append(f"progress {_progress(replica, now)}")
    if replica.preemptions:
        told.append(f"preempted {replica.preemptions} times")
    if replica.place.nodes:
        told.append(f"on {_some([plain(node) for node in replica.place.nodes])}")
    if vms := state.vms_under(replica):
        told.append(f"VM: workflow {_some([f'`{vm_workflow_id(vm.key)}`' for vm in vms])}")
    return f"- {' · '.join(told)}"


def _origin(replica: Replica) -> str:
    if replica.run.restore is None:
        return "from the beginning"
    return f"from {plain(replica.run.restore.label.partition('@')[0].rpartition(':')[2])}"


def _some(names: list[str]) -> str:
    """List the first few machines of a gang, and count the others."""
    listed = ", ".join(names[:LISTED])
    return f"{listed} and {len(names) - LISTED} more" if len(names) > LISTED else listed


def _progress(replica: Replica, now: datetime) -> str:
    """Return the progress that the replica last reported, or else its training time."""
    return f"{replica.run.reading:g}" if replica.run.reading is not None else f"{training_time(replica, now):.0f} s"
