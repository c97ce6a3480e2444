"""The room for a replica on the VM that was bought for it: other teams' pods may sit there all the same.

A bought Node is cordoned, which keeps out all but those who tolerate every taint or name the Node themselves. People
read their names, and if they stay too long the VM is given up: it costs money and serves nobody.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import errors
    from api.views import PodView

from workflows.calls import call, explain
from workflows.phases.life import Part

LOOK_SECONDS = 60.0
NO_ROOM = "NoRoom"


@dataclass(frozen=True)
class Lack:
    """Why there is no room."""

    reason: str
    message: str


class Room(Part):
    """The room on one bought VM, while a pod waits for it."""

    def is_missing(self, pod: PodView | None) -> bool:
        """True while the scheduler finds no room for the pod on the machine that was bought for it."""
        waits = pod is not None and pod.node is None and pod.waiting_reason == "Unschedulable"
        return waits and self.me.vm_key is not None and workflow.patched("room")

    @property
    def first_look(self) -> datetime:
        """When to look who is there: a pod that has just been created is often told to wait for a moment."""
        return self.me.since + timedelta(seconds=self.state.timings.schedule_wait)

    @property
    def deadline(self) -> datetime:
        """When the VM is given up."""
        return self.me.since + timedelta(seconds=self.state.timings.room_deadline)

    @property
    def is_late(self) -> bool:
        """True once the VM is to be given up."""
        return workflow.now() >= self.deadline

    async def look(self, pod: PodView) -> Lack:
        """See who has the room, and tell people."""
        node = self.me.node or ""
        request = act.FindStrangers(job=self.job.ref, job_template=self.job.spec.job_template, node=node)
        lack = f"replica {self.me.index} does not fit on {node}, the VM that was bought for it: {pod.message}"
        try:
            found = await call(act.FIND_STRANGERS, request, summary=f"who has the room on {node}?")
        except ActivityError as error:  # whoever has it, the VM is given up in time
            return self._tell(NO_ROOM, f"{lack}. Who has the room could not be looked at: {explain(error)[1]}")
        if found.pods:
            return self.taken(f"{', '.join(found.pods)} on {node}: {found.lacks}")
        return self._tell(NO_ROOM, f"{lack}. {_remedy(pod)}")

    def taken(self, by: str) -> Lack:
        """Tell people that pods of others have the room."""
        return self._tell(
            errors.ROOM_TAKEN,
            f"pods of others have the room on the VM that was bought for replica {self.me.index} ({by}). Delete them, "
            "or let them tolerate nvidia.com/gpu alone instead of every taint",
        )

    def _tell(self, reason: str, message: str) -> Lack:
        text = f"{message}; the VM is given up at {self.deadline:%H:%M:%S} UTC"
        told = self.state.conditions.get("CapacityAvailable")
        if told is None or told.message != text:
            self.job.event(reason, text, warning=True)
        self.job.condition("CapacityAvailable", False, reason, text)
        self.life.starts.fails(self.me, reason, message.removeprefix(f"replica {self.me.index} "))
        self.life.say(text)
        return Lack(reason, message)

    def found(self) -> None:
        """Tell people that there is room by now, if they were told that there was none."""
        told = self.state.conditions.get("CapacityAvailable")
        if told is None or told.status != "False":
            return
        if self.me.vm_key is not None and told.reason in {errors.ROOM_TAKEN, NO_ROOM}:
            self.job.condition("CapacityAvailable", True, "Provisioned")
        elif self.me.vm_key is None and not self._others_seek() and workflow.patched("free-gpu-told"):
            self.job.condition("CapacityAvailable", True, "FreeGPU", "a GPU of the cluster was free")

    def _others_seek(self) -> bool:
        others = [replica for replica in self.state.replicas.values() if replica is not self.me]
        return any(replica.phase in {"Pending", "Preempted", "Provisioning"} for replica in others)


def _remedy(pod: PodView) -> str:
    if "persistentvolumeclaim" in (pod.message or "").lower():
        return "Create the PersistentVolumeClaim that jobTemplate names, or see that it is bound in this zone"
    return "Let jobTemplate ask for less, or the SpotInstanceVM for a larger gcp.machineType"
