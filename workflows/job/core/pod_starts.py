"""The condition ``PodsStart``: whether the pods of a job start, and if not, why.

A phase that learns why a replica's pod does not run reports the blocker here, in the words of whoever knows it: the Job
controller, the scheduler, the kubelet, a queue. It counts until the pod runs or the replica is released.
"""

import re

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import conditions, events, reasons

from workflows.common.patches import patched
from workflows.job.core.job import Job
from workflows.job.state.replica import Blocker, Replica

_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?")
_LONGEST = 1000
"""The most characters in a message: a kubelet may write more, and root on a bought node may write anything."""


class PodStarts:
    """Records why the pods of one job do not run, and writes the condition."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state

    def fails(self, me: Replica, reason: str, message: str) -> None:
        """Record why a replica's pod does not run. A later call replaces the blocker; a new reason is also an Event."""
        if not self._applies():
            return
        reason = reason[:100] if _REASON.fullmatch(reason[:100]) else reasons.POD_WAITS
        before = me.blocker
        now = Blocker(reason=reason, message=message[:_LONGEST], since=workflow.now())
        if before is not None:
            now.since, now.seen = before.since, before.seen and before.reason == reason
        if now == before:
            return
        me.blocker = now
        if before is None or before.reason != reason:
            self.job.event(events.POD_DOES_NOT_START, _of_replica(me.index, now), warning=True)
        self.job.touch()

    def runs(self, me: Replica) -> None:
        """Forget what kept a replica's pod from running: it runs."""
        me.blocker = None

    def unblocked(self, me: Replica) -> None:
        """Forget a blocker that is gone. Timeouts and evictions count until a pod runs."""
        if me.blocker is not None and me.blocker.reason not in {reasons.START_TIMEOUT, reasons.POD_TAKEN_AWAY}:
            me.blocker = None
            self.job.touch()

    def report(self) -> None:
        """Write the condition, from all replicas. It is level-triggered: a second call changes nothing."""
        if not self._applies():
            return
        meant = [replica for replica in self.state.replicas.values() if replica.halt is None and not replica.proof]
        blockers = [(replica.index, replica.blocker) for replica in meant if replica.blocker]
        if blockers:
            message = "; ".join(_of_replica(index, blocker) for index, blocker in blockers[:3])
            self.job.condition(conditions.PODS_START, False, blockers[0][1].reason, message)
        elif any(replica.phase == "Running" for replica in meant):
            self.job.condition(conditions.PODS_START, True, reasons.PODS_RUN)
        elif self._is_false():
            self.job.condition(conditions.PODS_START, None, reasons.NONE_STARTED, "no pod is being started now")
        elif conditions.PODS_START not in self.state.conditions:
            self.job.condition(conditions.PODS_START, None, reasons.NONE_STARTED, "no pod has been started yet")

    def _is_false(self) -> bool:
        before = self.state.conditions.get(conditions.PODS_START)
        return before is not None and before.status == "False"

    def _applies(self) -> bool:
        return patched("pods-start")


def _of_replica(index: int, blocker: Blocker) -> str:
    """Put the replica's name before a message that does not begin with it."""
    name = f"replica {index}"
    return blocker.message if blocker.message.startswith(f"{name} ") else f"{name}: {blocker.message}"
