"""The condition ``PodsStart``: whether the pods of a job come to run, and if not, why.

A phase that learns why a replica's pod does not run says so here, in the words of whoever knows: the Job controller,
the scheduler, the kubelet, a queue. What is said of a replica counts until its pod runs or the replica is let go.
"""

import re

from temporalio import workflow

from workflows.job import Job
from workflows.state import Replica, Trouble

PODS_START = "PodsStart"
"""The condition. ``True``: every pod that was started runs. ``Unknown``: none was started yet, or none is now."""

TOO_LATE = "StartTimeout"
"""The reason if nobody says why a pod did not run in its time."""
TAKEN_AWAY = "PodTakenAway"
"""The reason if a pod was deleted or evicted again and again before it ran."""

_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?")
_LONGEST = 1000  # characters of a message: a kubelet may say more, and root on a bought node whatever it likes


class Starts:
    """Why the pods of one job do not run."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state

    def fails(self, me: Replica, reason: str, message: str) -> None:
        """Say why a replica's pod does not run; who learns more says it anew. A new reason is also an Event."""
        if not self._applies():
            return
        reason = reason[:100] if _REASON.fullmatch(reason[:100]) else "PodWaits"
        before = me.trouble
        now = Trouble(reason=reason, message=message[:_LONGEST], since=workflow.now())
        if before is not None:
            now.since, now.seen = before.since, before.seen and before.reason == reason
        if now == before:
            return
        me.trouble = now
        if before is None or before.reason != reason:
            self.job.event("PodDoesNotStart", _of_replica(me.index, now), warning=True)
        self.job.touch()

    def runs(self, me: Replica) -> None:
        """Forget what kept a replica's pod from running."""
        me.trouble = None

    def goes_on(self, me: Replica) -> None:
        """Forget a hindrance that is gone; that earlier tries took too long is shown by none but a pod that runs."""
        if me.trouble is not None and me.trouble.reason not in {TOO_LATE, TAKEN_AWAY}:
            me.trouble = None
            self.job.touch()

    def tell(self) -> None:
        """Make the condition say what is known of all replicas. Level-triggered."""
        if not self._applies():
            return
        meant = [replica for replica in self.state.replicas.values() if replica.halt is None and not replica.proof]
        troubles = [(replica.index, replica.trouble) for replica in meant if replica.trouble]
        if troubles:
            said = "; ".join(_of_replica(index, trouble) for index, trouble in troubles[:3])
            self.job.condition(PODS_START, False, troubles[0][1].reason, said)
        elif any(replica.phase == "Running" for replica in meant):
            self.job.condition(PODS_START, True, "PodsRun")
        elif self._says_no():
            self.job.condition(PODS_START, None, "NoneStarted", "no pod is being started now")
        elif PODS_START not in self.state.conditions:
            self.job.condition(PODS_START, None, "NoneStarted", "no pod has been started yet")

    def _says_no(self) -> bool:
        told = self.state.conditions.get(PODS_START)
        return told is not None and told.status == "False"

    def _applies(self) -> bool:
        return workflow.patched("pods-start")


def _of_replica(index: int, trouble: Trouble) -> str:
    """Say of which replica it is, if its message does not begin with that."""
    named = f"replica {index}"
    return trouble.message if trouble.message.startswith(f"{named} ") else f"{named}: {trouble.message}"
