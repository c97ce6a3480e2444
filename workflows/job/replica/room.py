"""The room for a replica on the VM that was bought for it, which pods of other teams may have taken.

A bought Node is cordoned, which keeps out all pods but those that tolerate every taint or name the Node themselves. The
job reports their names. If they stay too long, the VM is released: it costs money and serves nobody.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import conditions, errors, reasons
    from api.views import PodView
    from api.waiting import UNSCHEDULABLE

from workflows.common.calls import call, explain
from workflows.common.patches import patched
from workflows.job.replica.life import Part

CHECK_SECONDS = 60.0
"""The time between two checks of who has the room."""


@dataclass(frozen=True)
class Lack:
    """Why a VM has no room for its replica."""

    reason: str
    message: str


class Room(Part):
    """Watches the room on one bought VM while a pod waits for it."""

    def is_missing(self, pod: PodView | None) -> bool:
        """True while the scheduler finds no room for the pod on the machine that was bought for it."""
        waits = pod is not None and pod.node is None and pod.waiting_reason == UNSCHEDULABLE
        return waits and self.me.place.bought and patched("room")

    @property
    def first_check(self) -> datetime:
        """Return when to check first: a pod that has just been created often has to wait for a moment."""
        return self.me.since + timedelta(seconds=self.state.timings.schedule_wait)

    @property
    def deadline(self) -> datetime:
        """Return when the VM is released."""
        return self.me.since + timedelta(seconds=self.state.timings.room_deadline)

    @property
    def is_late(self) -> bool:
        """True once the VM has to be released."""
        return workflow.now() >= self.deadline

    async def check(self, pod: PodView) -> Lack:
        """Find out who has the room, and report it."""
        taken = self.me.run.nodes.values()
        node = next((node for node in self.me.place.nodes if node not in taken), "")
        request = act.FindStrangers(job=self.job.ref, job_template=self.job.spec.job_template, node=node)
        lack = f"replica {self.me.index} does not fit on {node}, the VM that was bought for it: {pod.message}"
        try:
            found = await call(act.FIND_STRANGERS, request, summary=f"who has the room on {node}?")
        except ActivityError as error:  # whoever has it, the VM is released in time
            return self._report(reasons.NO_ROOM, f"{lack}. Cannot find out who has the room: {explain(error)[1]}")
        if found.pods:
            return self.taken(f"{', '.join(found.pods)} on {node}: {found.lacks}")
        return self._report(reasons.NO_ROOM, f"{lack}. {_remedy(pod)}")

    def taken(self, by: str) -> Lack:
        """Report that pods of others have the room."""
        return self._report(
            errors.ROOM_TAKEN,
            f"pods of others have the room on the VM that was bought for replica {self.me.index} ({by}). Delete them, "
            "or let them tolerate only nvidia.com/gpu instead of every taint",
        )

    def _report(self, reason: str, message: str) -> Lack:
        text = f"{message}; the VM is released at {self.deadline:%H:%M:%S} UTC"
        before = self.state.conditions.get(conditions.CAPACITY_AVAILABLE)
        if before is None or before.message != text:
            self.job.event(reason, text, warning=True)
        self.job.condition(conditions.CAPACITY_AVAILABLE, False, reason, text)
        self.life.pod_starts.fails(self.me, reason, message.removeprefix(f"replica {self.me.index} "))
        self.life.say(text)
        return Lack(reason, message)

    def found(self) -> None:
        """Report that there is room, if it was reported that there was none."""
        before = self.state.conditions.get(conditions.CAPACITY_AVAILABLE)
        if before is None or before.status != "False":
            return
        if self.me.place.bought and before.reason in {errors.ROOM_TAKEN, reasons.NO_ROOM}:
            self.job.condition(conditions.CAPACITY_AVAILABLE, True, reasons.PROVISIONED)
        elif not self.me.place.bought and not self._others_look() and patched("free-gpu-told"):
            self.job.condition(conditions.CAPACITY_AVAILABLE, True, reasons.FREE_GPU, "a GPU of the cluster was free")

    def _others_look(self) -> bool:
        others = [replica for replica in self.state.replicas.values() if replica is not self.me]
        return any(replica.phase in {"Pending", "Preempted", "Provisioning"} for replica in others)


def _remedy(pod: PodView) -> str:
    if "persistentvolumeclaim" in (pod.message or "").lower():
        return "Create the PersistentVolumeClaim that jobTemplate names, or make sure that it is bound in this zone"
    return "Let jobTemplate request less, or set a larger gcp.machineType in the SpotInstanceVM"
