"""One line of ``kubectl get sij``: what a job is doing or waits for. Pure, made only from the rest of its status.

So it changes only when the rest does, and costs no write of its own. A new condition joins one of the lists below.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from api import conditions, reasons
from api.common import Condition
from api.spot_instance_job import JobStatusEntry, SpotInstanceJobStatus

LONGEST = 120
"""Characters of ``state``; ``message`` contains the rest."""


class Overview(NamedTuple):
    """The fields ``state`` and ``message`` of the status; an empty message means that there is no more to say."""

    state: str
    message: str = ""


@dataclass(frozen=True)
class Blocker:
    """A condition that says why a replica does not run yet.

    Attributes:
        type: the condition's type.
        words: what the job is doing meanwhile.
        phases: the phases of the replicas that it concerns; a later phase no longer waits for it.
        when: the status of the condition that means so.
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
    "Releasing": "Releasing a VM",
}
"""What a replica that does not run is doing, the earliest phase first."""

_WAITING = frozenset(PHASES)
_SEEKING = frozenset({"Pending", "Preempted", "Provisioning"})

BLOCKERS = (
    Blocker("Queued", "Queued", _WAITING, when="True"),
    Blocker("PodsStart", "Pods do not start", _WAITING),
    Blocker("Restorable", "Waiting for a decision", frozenset({"Restoring"})),
    Blocker("MachineFits", "No machine fits", frozenset({"Pending", "Preempted"})),
    Blocker("CapacityAvailable", "Buying a VM", _SEEKING | {"Starting"}),
    Blocker("Stable", "Unstable", _WAITING),
)
"""Why a replica does not run yet, the most telling first."""

CHECKS = ("MachineFits", "CheckpointOperatorReady", "RegistryReady", "StorageReady", "CredentialsReady", "CloudReady")
"""What a job needs before it begins."""

WARNINGS = {
    "Progressing": "stalled",
    "Stable": "ends again and again",
    "CheckpointsSucceed": "checkpoints fail",
    "Accepted": "edit refused",
}
"""What is said beside a training that runs, the most telling first; for all else, the condition's name."""

DELETED = frozenset({reasons.DELETED, reasons.GONE})


def overview(status: SpotInstanceJobStatus) -> Overview:
    """Say in a few words what the job is doing or waits for, or how it ended."""
    told = {condition.type: condition for condition in status.conditions}
    found = _end(told) or _suspension(told) or _life(status, told)
    return Overview(_shortened(_in_one_line(found.state)), _in_one_line(found.message))


def _end(told: dict[str, Condition]) -> Overview | None:
    """Say that it has ended, or is being deleted; None if neither."""
    torn_down, running = told.get(conditions.TORN_DOWN), told.get(conditions.RUNNING)
    if running is not None and running.status == "False" and running.reason in DELETED:
        return _said("Deleting", torn_down.message if torn_down and torn_down.status == "False" else "")
    if (failed := told.get(conditions.FAILED)) is not None and failed.status == "True":
        return Overview(f"Failed: {failed.reason}", failed.message)
    if (completed := told.get(conditions.COMPLETED)) is not None and completed.status == "True":
        return Overview("Completed", completed.message)
    return None


def _suspension(told: dict[str, Condition]) -> Overview | None:
    suspended = told.get(conditions.SUSPENDED)
    if suspended is None or suspended.reason == reasons.RESUMED:
        return None
    if suspended.status == "True":
        return Overview("Suspended", suspended.message)
    return _said("Suspending", suspended.message)


def _life(status: SpotInstanceJobStatus, told: dict[str, Condition]) -> Overview:
    if not status.job_statuses:
        return _before(told)
    active, meant = status.active_replicas or 0, status.replicas or 0
    doing = _doing(status.job_statuses, told)
    if active >= meant or (active and doing is None):
        return _with_warning(f"Running {_counted(status)}", told)
    recovering = told.get(conditions.RECOVERING)
    if recovering is not None and recovering.status == "True":
        return _prefixed(f"Recovering {active}/{meant}", doing or Overview(recovering.message))
    if active:
        return _prefixed(f"Running {_counted(status)}", doing or Overview(""))
    return doing or Overview(f"Running 0/{meant}")


def _counted(status: SpotInstanceJobStatus) -> str:
    """Count the replicas that run, or the members of a gang that do."""
    gang = next((entry for entry in status.job_statuses if entry.members), None)
    if gang is None or gang.members is None:
        return f"{status.active_replicas or 0}/{status.replicas or 0}"
    return f"{len([each for each in gang.members if each.phase == 'Running'])}/{gang.wanted_members} members"


def _before(told: dict[str, Condition]) -> Overview:
    """Say what is wrong with the specs, or with what they need, before anything was begun."""
    accepted = told.get(conditions.ACCEPTED)
    if accepted is None:
        return Overview("Reading the spec")
    if accepted.status != "True":
        return _said("Not accepted", accepted.message or accepted.reason)
    checks = [told[kind] for kind in CHECKS if kind in told and told[kind].status != "True"]
    if not checks:
        return Overview("Preparing")
    check = min(checks, key=lambda check: check.status)  # what is False may be why another one is Unknown
    return _said("Not ready", f"{check.type}: {check.message or check.reason}")


def blocker_of(entries: list[JobStatusEntry], told: dict[str, Condition]) -> Blocker | None:
    """Find why a replica does not run yet; None if no condition says so."""
    phases = {entry.phase for entry in entries}
    for blocker in BLOCKERS:
        found = told.get(blocker.type)
        if found is not None and found.status == blocker.when and phases & blocker.phases:
            return blocker
    return None


def _doing(entries: list[JobStatusEntry], told: dict[str, Condition]) -> Overview | None:
    """Say what the replicas that do not run are doing; None if each of them has ended."""
    blocker = blocker_of(entries, told)
    if blocker is not None:
        found = told[blocker.type]
        return _said(blocker.words, found.message or found.reason)
    order = list(PHASES)
    waiting = [entry for entry in entries if entry.phase in PHASES]
    last = min(waiting, key=lambda entry: order.index(entry.phase or ""), default=None)
    return _said(PHASES[last.phase or ""], last.message or "") if last else None


def _with_warning(head: str, told: dict[str, Condition]) -> Overview:
    for condition in _warnings(told):
        said = WARNINGS.get(condition.type, f"{condition.type}={condition.status}")
        return Overview(f"{head}, {said}", f"{condition.type}: {condition.message or condition.reason}")
    return Overview(head)


def _warnings(told: dict[str, Condition]) -> Iterator[Condition]:
    known = (told[kind] for kind in (*WARNINGS, *CHECKS) if kind in told)
    return (condition for condition in known if condition.status == "False")


def _said(words: str, message: str) -> Overview:
    """Join the words for what it is doing and what is known about that."""
    bare = message.partition(":")[2].strip() if message.lower().startswith(f"{words.lower()}:") else message
    return Overview(f"{words}: {bare}" if bare else words, message)


def _prefixed(head: str, doing: Overview) -> Overview:
    state = f"{head}: {doing.state[:1].lower()}{doing.state[1:]}" if doing.state else head
    return Overview(state, doing.message)


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
