"""A VM as a card for Temporal's Web UI: its stage, what it waits for until when, and what it is. Pure."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from api.market import Candidate
from api.messages import JOINING, Stage, VmStart
from api.names import job_workflow_id
from workflows.common.markdown import moment, plain, table
from workflows.vm.state import VmState

STAGES: dict[Stage, str] = {
    "Creating": "Buying a VM",
    "Booting": "The VM boots",
    "Joining": "The VM joins the cluster",
    "Registering": "Its Node registers",
    "Ready": "The VM serves its replica",
    "Noticed": "The cloud takes the VM away",
    "Lost": "The VM is lost",
    "Deleting": "The VM is being deleted",
    "Gone": "Nothing is left of the VM",
}
"""What each stage is in words."""

SHORTAGE = "Nothing: it is tried again by itself. More zones or alternatives in the SpotInstanceVM make it likelier."
HELPS: dict[Stage, str] = {
    "Creating": SHORTAGE,
    "Deleting": "Nothing, unless it lasts: then see what the cloud says, and whether the credentials still work.",
}
"""What helps in a stage that has a reason to say; for a join, ``JOIN``."""
JOIN = "Correct what the message names. The VM is released at the stage's end, and another one is bought."


class Wait(NamedTuple):
    """What the workflow waits for, and until when at the latest; None if an activity says so."""

    what: str
    until: datetime | None = None


def card(start: VmStart, state: VmState, candidate: Candidate, wait: Wait | None) -> str:
    """Describe the VM in Markdown."""
    title = STAGES[state.stage] + (f": {plain(state.reason)}" if state.reason else "")
    lines = [f"### {title}", "", f"For **{start.namespace}/{start.job_name}** · replica {start.replica}"]
    if state.message:
        lines += ["", plain(state.message)]
    if state.reason and (helps := JOIN if state.stage in JOINING else HELPS.get(state.stage)):
        lines += ["", f"*What helps:* {helps}"]
    return "\n".join([*lines, "", *table(("", ""), _facts(start, state, candidate, wait))])


def _facts(start: VmStart, state: VmState, candidate: Candidate, wait: Wait | None) -> Iterator[tuple[str, str]]:
    current = state.tries[-1] if state.tries else None
    if wait is not None:
        what = "the next attempt" if wait.what == state.message else plain(wait.what)
        yield "waits for", f"{what}, until {moment(wait.until)} at the latest" if wait.until else what
    if state.deadline is not None and not (current is not None and current.absent):
        yield "this stage is late at", moment(state.deadline)
    if state.ends_at is not None:
        yield "the cloud ends it at", moment(state.ends_at)
    yield "machine", plain(candidate.key)
    if current is not None:
        yield "name", f"`{current.name}`, attempt {state.attempt}" if state.attempt else f"`{current.name}`"
        if current.price is not None:
            yield "price", plain(f"${current.price:.3f} an hour")
        if current.why:
            yield "why this one", plain(current.why)
    if state.wanted_at is not None and state.stage == "Creating":
        yield "looked for since", moment(state.wanted_at)
    if state.node is not None and state.node.exists:
        yield "Node", f"{plain(state.node.name)}, {'Ready' if state.node.ready else 'not Ready'}"
    yield "its job's workflow", f"`{job_workflow_id(start.namespace, start.job_name)}`"
    yield "bought by", f"SpotInstanceVM {start.vm_name}"
