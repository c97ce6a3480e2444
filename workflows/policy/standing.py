"""What follows from ends that leave the machine standing: evictions, deleted pods, failures on one machine.

The first is answered where the replica is. The second in a row on one machine is answered on another one, since the
machine may be at fault. If another machine does not help, each further one is bought ever later.
"""

from collections.abc import Iterable
from typing import Literal

from api.model import Model
from workflows.state import Ends, Replica

Kind = Literal["Disrupted", "NeverRan", "Failed", "Broke"]
"""Somebody took the pod away; it ended before it ran; the training itself failed; its machine is said to be broken."""

ENDS_PER_MACHINE = 2
"""Ends in a row on one machine after which it is left."""

HOUR = 3600.0

EVICTED = "EvictedAgainAndAgain"
DELETED = "DeletedAgainAndAgain"
NEVER_RAN = "NeverRuns"
BREAK = "MachinesBreak"
FAILS = "FailsAgainAndAgain"

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
    """One end of a replica's pod on a machine that stands."""

    kind: Kind
    node: str
    why: str
    disruption: str | None = None  # "REASON: message" of whoever took the pod away, if he said so
    leave: Literal["", "Drained", "Unfit"] = ""  # why the machine is left whatever was before


def count(ends: Ends, end: End) -> Ends:
    """Count one more end."""
    same = ends.node == end.node
    here = ends.here + 1 if same else 1
    failed_here = (ends.failed_here if same else 0) + (end.kind == "Failed")
    counted = ends.model_copy(update={"node": end.node, "here": here, "failed_here": failed_here})
    if max(here, counted.failed_here) < ENDS_PER_MACHINE and not counted.machines:
        return counted
    reason, message = _told(counted, end)
    return counted.model_copy(update={"reason": reason, "message": message})


def leaves(ends: Ends, end: End) -> bool:
    """True if the machine is left after this end, which is counted already.

    A training that fails by itself tries one other machine: ``maxRestarts`` bounds its failures, and if it fails there,
    too, a third machine costs money and shows nothing.
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
    """Forget all but on which machine the training itself has failed: it may do so hours later for the same cause."""
    return Ends(node=ends.node, failed_here=ends.failed_here)


def ran_well(seconds: float, *, saved: bool) -> bool:
    """True once a run has shown that the trouble is over.

    Ten minutes, as the kubelet counts for its own back-off, are enough if the run left something to go on from. A pod
    that is evicted every twenty minutes, before its next checkpoint, gets nowhere: without one it takes an hour.
    """
    return seconds >= good_after(saved=saved)


def good_after(*, saved: bool) -> float:
    """Give the seconds after which a run is a good one."""
    return HOUR / 6 if saved else HOUR


def instability(replicas: Iterable[Replica]) -> tuple[str, str] | None:
    """Give the reason and message of ``Stable=False``; None if no replica that is meant to run has such trouble."""
    meant = [replica for replica in replicas if replica.outcome is None and replica.halt is None]
    troubled = [replica for replica in meant if replica.ends.reason]
    if not troubled:
        return None
    told = ". ".join(f"Replica {replica.index} {replica.ends.message}" for replica in troubled)
    return troubled[0].ends.reason, told


def _told(ends: Ends, end: End) -> tuple[str, str]:
    """Say what happens again and again, by whom, and what helps."""
    number = max(ends.here, ends.failed_here) if end.kind == "Failed" else ends.here
    machines = f", and on {_plural(ends.machines, 'machine')} before" if ends.machines else ""
    where = f"{_plural(number, 'time')} in a row on {end.node}{machines}"
    if end.kind == "Failed":
        return FAILS, f"failed {where}: {end.why}"
    if end.kind == "Broke":
        helps = "look at vmImage and its GPU driver, and at whoever sets that condition of a Node"
        return BREAK, f"lost {_plural(ends.machines + 1, 'machine')} in a row to {end.why}. What helps: {helps}"
    if end.kind == "NeverRan" and end.disruption is None:
        return NEVER_RAN, f"ended before it ran {where}: {end.why}"
    if end.disruption is None:
        return DELETED, f"lost its pod {where}: {end.why}. What helps: {_WITHOUT_WORDS}"
    remedy = _REMEDIES.get(end.disruption.partition(":")[0])
    return EVICTED, f"was evicted {where}: {end.disruption}" + (f". What helps: {remedy}" if remedy else "")


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
