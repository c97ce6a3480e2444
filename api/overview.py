"""One line of ``kubectl get sij``: what a job is doing or waits for. Pure, from the rest of its status alone.

So it changes only when the rest does, and costs no write of its own. A new condition joins one of the lists below.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from api.common import Condition
from api.spot_instance_job import JobStatusEntry, SpotInstanceJobStatus

LONGEST = 120
"""Characters of ``state``; ``message`` holds the rest."""


class Overview(NamedTuple):
    """The fields ``state`` and ``message`` of the status; an empty message says that there is no more to tell."""

    state: str
    message: str = ""


@dataclass(frozen=True)
class Trouble:
    """A condition that says why a replica does not run yet.

    Attributes:
        type: of the condition.
        words: what the job is doing meanwhile.
        phases: of the replicas that it is about; a replica further on does not wait for it any more.
        when: the status of the condition that says so.
    """

    type: str
    words: str
    phases: frozenset[str]
    when: str = "False"


PHASES = {
    "Queued": "Queued",
    "Pending": "Looking for a GPU",
    "Preempted": "Looking for a GPU",
    "Provisioning": "Buying a VM",
    "Joining": "Joining a VM",
    "NodeReady": "Preparing a start",
    "Restoring": "Preparing a start",
    "Starting": "Starting",
    "Judging": "Judging an end",
    "Releasing": "Letting go of a VM",
}
"""What a replica that does not run is doing, the furthest behind first."""

_WAITING = frozenset(PHASES)
_SEEKING = frozenset({"Pending", "Preempted", "Provisioning"})

TROUBLES = (
    Trouble("Queued", "Queued", _WAITING, when="True"),
    Trouble("PodsStart", "Pods do not start", _WAITING),
    Trouble("Restorable", "Held", frozenset({"Restoring"})),
    Trouble("MachineFits", "No machine fits", frozenset({"Pending", "Preempted"})),
    Trouble("CapacityAvailable", "Buying a VM", _SEEKING | {"Starting"}),
    Trouble("Stable", "Unstable", _WAITING),
)
"""Why a replica does not run yet, the most telling first."""

CHECKS = ("MachineFits", "CheckpointOperatorReady", "RegistryReady", "StorageReady", "CredentialsReady", "CloudReady")
"""What a job needs before it begins."""

REMARKS = {
    "Progressing": "stands still",
    "Stable": "ends again and again",
    "CheckpointsSucceed": "checkpoints fail",
    "Accepted": "edit refused",
}
"""What is told beside a training that runs, the most telling first; of all else the condition's name is."""

DELETED = frozenset({"Deleted", "Gone"})


def overview(status: SpotInstanceJobStatus) -> Overview:
    """Say in a few words what the job is doing or waits for, or how it ended."""
    conditions = {condition.type: condition for condition in status.conditions}
    found = _end(conditions) or _suspension(conditions) or _life(status, conditions)
    return Overview(_shortened(_in_one_line(found.state)), _in_one_line(found.message))


def _end(conditions: dict[str, Condition]) -> Overview | None:
    """Say that it has ended, or is being deleted."""
    torn_down, running = conditions.get("TornDown"), conditions.get("Running")
    if running is not None and running.status == "False" and running.reason in DELETED:
        return _said("Deleting", torn_down.message if torn_down and torn_down.status == "False" else "")
    if (failed := conditions.get("Failed")) is not None and failed.status == "True":
        return Overview(f"Failed: {failed.reason}", failed.message)
    if (completed := conditions.get("Completed")) is not None and completed.status == "True":
        return Overview("Completed", completed.message)
    return None


def _suspension(conditions: dict[str, Condition]) -> Overview | None:
    suspended = conditions.get("Suspended")
    if suspended is None or suspended.reason == "Resumed":
        return None
    if suspended.status == "True":
        return Overview("Suspended", suspended.message)
    return _said("Suspending", suspended.message)


def _life(status: SpotInstanceJobStatus, conditions: dict[str, Condition]) -> Overview:
    if not status.job_statuses:
        return _before(conditions)
    active, meant = status.active_replicas or 0, status.replicas or 0
    doing = _doing(status.job_statuses, conditions)
    if active >= meant or (active and doing is None):
        return _with_remark(f"Running {active}/{meant}", conditions)
    recovering = conditions.get("Recovering")
    if recovering is not None and recovering.status == "True":
        return _prefixed(f"Recovering {active}/{meant}", doing or Overview(recovering.message))
    if active:
        return _prefixed(f"Running {active}/{meant}", doing or Overview(""))
    return doing or Overview(f"Running 0/{meant}")


def _before(conditions: dict[str, Condition]) -> Overview:
    """Say what is wrong with the specs or with what they need, before anything was begun."""
    accepted = conditions.get("Accepted")
    if accepted is None:
        return Overview("Reading the spec")
    if accepted.status != "True":
        return _said("Not accepted", accepted.message or accepted.reason)
    for check in (conditions[kind] for kind in CHECKS if kind in conditions):
        if check.status != "True":
            return _said("Not ready", f"{check.type}: {check.message or check.reason}")
    return Overview("Preparing")


def _doing(entries: list[JobStatusEntry], conditions: dict[str, Condition]) -> Overview | None:
    """Say what the replicas that do not run are doing; None if each of them has ended."""
    phases = {entry.phase for entry in entries}
    for trouble in TROUBLES:
        found = conditions.get(trouble.type)
        if found is not None and found.status == trouble.when and phases & trouble.phases:
            return _said(trouble.words, found.message or found.reason)
    order = list(PHASES)
    waiting = [entry for entry in entries if entry.phase in PHASES]
    last = min(waiting, key=lambda entry: order.index(entry.phase or ""), default=None)
    return _said(PHASES[last.phase or ""], last.message or "") if last else None


def _with_remark(head: str, conditions: dict[str, Condition]) -> Overview:
    for condition in _remarkable(conditions):
        said = REMARKS.get(condition.type, f"{condition.type}={condition.status}")
        return Overview(f"{head}, {said}", f"{condition.type}: {condition.message or condition.reason}")
    return Overview(head)


def _remarkable(conditions: dict[str, Condition]) -> Iterator[Condition]:
    known = (conditions[kind] for kind in (*REMARKS, *CHECKS) if kind in conditions)
    return (condition for condition in known if condition.status == "False")


def _said(words: str, message: str) -> Overview:
    """Join the words for what it is doing and what is known of that."""
    bare = message.partition(":")[2].strip() if message.lower().startswith(f"{words.lower()}:") else message
    return Overview(f"{words}: {bare}" if bare else words, message)


def _prefixed(head: str, doing: Overview) -> Overview:
    state = f"{head}: {doing.state[:1].lower()}{doing.state[1:]}" if doing.state else head
    return Overview(state, doing.message)


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
