"""What follows from disruptions and failures after which the machine stays up: evictions, deleted pods, failures.

After the first, the replica starts again on the same machine. After the second in a row it leaves the machine, which
may be at fault. If another machine does not help, the pause before each further one grows.
"""

from collections.abc import Iterable
from typing import Literal

from api import reasons
from api.model import Model
from workflows.job.state.replica import Ends, Replica

Kind = Literal["Disrupted", "NeverRan", "Failed", "Broke"]
"""Somebody took the pod away, it ended before it ran, the training failed, or its machine is said to be broken."""

ENDS_PER_MACHINE = 2
"""A machine is left after this many ends in a row."""

HOUR = 3600.0

_REMEDIES = {
    "Evicted": "let jobTemplate request the memory and ephemeral-storage that it uses, or the SpotInstanceVM name a "
    "larger machine or disk",
    "EvictionByEvictionAPI": "somebody drains its machines, or a descheduler evicts it: exclude pods with the label "
    "training.dcnlab.com/job",
    "PreemptionByScheduler": "pods of a higher priority take its place: give jobTemplate a priorityClassName",
    "DeletionByTaintManager": "its nodes get a NoExecute taint that jobTemplate does not tolerate",
}
_REMEDIES["TerminationByKubelet"] = _REMEDIES["Evicted"]
_WITHOUT_WORDS = "find out who deletes its pods, for example in the API server's audit log"


class End(Model):
    """One end of a replica's pod after which its machine stays up."""

    kind: Kind
    node: str
    why: str
    disruption: str | None = None  # "REASON: message" of whoever took the pod away, if known
    leave: Literal["", "Drained", "Unfit"] = ""  # why the machine is left even after a first end


def count(ends: Ends, end: End) -> Ends:
    """Count one more end."""
    same = ends.node == end.node
    here = ends.here + 1 if same else 1
    failed_here = (ends.failed_here if same else 0) + (end.kind == "Failed")
    counted = ends.model_copy(update={"node": end.node, "here": here, "failed_here": failed_here})
    if max(here, counted.failed_here) < ENDS_PER_MACHINE and not counted.machines:
        return counted
    reason, message = _report(counted, end)
    return counted.model_copy(update={"reason": reason, "message": message})


def leaves(ends: Ends, end: End) -> bool:
    """True if the machine is left after this end, which is already counted.

    A training that fails by itself tries one other machine. If it fails there too, a third machine would cost money and
    prove nothing. ``maxRestarts`` bounds its failures anyway.
    """
    if end.leave or end.kind == "Broke":
        return True
    if end.kind == "Failed":
        return ends.failed_here >= ENDS_PER_MACHINE and not ends.left_failing
    return ends.here >= ENDS_PER_MACHINE


def left(ends: Ends, end: End) -> Ends:
    """Count the machine that is left."""
    return ends.model_copy(
        update={
            "here": 0,
            "failed_here": 0,
            "machines": ends.machines + 1,
            "left_failing": ends.left_failing or end.kind == "Failed",
        }
    )


def after_a_good_run(ends: Ends) -> Ends:
    """Forget all ends except failures on the present machine: the training may fail hours later for the same cause."""
    return Ends(node=ends.node, failed_here=ends.failed_here)


def ran_well(seconds: float, *, saved: bool) -> bool:
    """True if a replica has run well: after ten minutes if it is ``saved``, that is with a checkpoint, or an hour.

    The kubelet also counts ten minutes for its own back-off. But a pod that is evicted every twenty minutes, before its
    next checkpoint, makes no progress.
    """
    return seconds >= good_after(saved=saved)


def good_after(*, saved: bool) -> float:
    """Return the seconds after which a replica has run well."""
    return HOUR / 6 if saved else HOUR


def instability(replicas: Iterable[Replica]) -> tuple[str, str] | None:
    """Return the reason and message of ``Stable=False``; None if no pod of a replica ends again and again."""
    meant = [replica for replica in replicas if replica.outcome is None and replica.halt is None]
    unstable = [replica for replica in meant if replica.ends.reason]
    if not unstable:
        return None
    message = ". ".join(f"Replica {replica.index} {replica.ends.message}" for replica in unstable)
    return unstable[0].ends.reason, message


def _report(ends: Ends, end: End) -> tuple[str, str]:
    """Return the reason and message of what happens again and again: who does it, and what helps."""
    number = max(ends.here, ends.failed_here) if end.kind == "Failed" else ends.here
    machines = f", and on {_plural(ends.machines, 'machine')} before" if ends.machines else ""
    where = f"{_plural(number, 'time')} in a row on {end.node}{machines}"
    if end.kind == "Failed":
        return reasons.FAILS_AGAIN_AND_AGAIN, f"failed {where}: {end.why}"
    if end.kind == "Broke":
        helps = "check vmImage, its GPU driver, and whatever sets that condition of a Node"
        return (
            reasons.MACHINES_BREAK,
            f"lost {_plural(ends.machines + 1, 'machine')} in a row to {end.why}. What helps: {helps}",
        )
    if end.kind == "NeverRan" and end.disruption is None:
        return reasons.NEVER_RUNS, f"ended before it ran {where}: {end.why}"
    if end.disruption is None:
        return reasons.DELETED_AGAIN_AND_AGAIN, f"lost its pod {where}: {end.why}. What helps: {_WITHOUT_WORDS}"
    remedy = _REMEDIES.get(end.disruption.partition(":")[0])
    return reasons.EVICTED_AGAIN_AND_AGAIN, f"was evicted {where}: {end.disruption}" + (
        f". What helps: {remedy}" if remedy else ""
    )


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
