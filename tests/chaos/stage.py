"""A world on which faults are played: what lasts is switched on and off again, the rest happens at once."""

from collections.abc import Callable
from typing import Any

from api.messages import Shutdown
from tests.chaos.calls import Calls, Mode
from tests.chaos.ledger import Ledger
from tests.chaos.script import Fault
from tests.workflows.cloud import Instance
from tests.workflows.cluster_objects import Job
from tests.workflows.world import WORKFLOW_ID, World

Switch = Callable[["Stage"], None]


class Stage:
    """One story's world, its books, and the faults that last at present."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ledger = Ledger.of(world)
        self.calls = Calls(world, self.ledger)
        self.calls.fate = self._fate
        self.lasting: list[tuple[Fault, Switch]] = []
        self.worker_killed = False
        self._since_injured = 0

    # --- playing

    def begin(self, fault: Fault, switch: Switch) -> None:
        """A fault lasts from now on; ``switch`` sets the world by all those of its kind that last."""
        self.lasting.append((fault, switch))
        self._set(switch)
        self.world.clock.after(int(fault.args["seconds"]), lambda: self.end(fault, switch))

    def end(self, fault: Fault, switch: Switch) -> None:
        """It is over."""
        if (fault, switch) in self.lasting:
            self.lasting.remove((fault, switch))
            self._set(switch)

    def end_all(self) -> None:
        """All that lasts is over."""
        for fault, switch in list(self.lasting):
            self.end(fault, switch)

    def _set(self, switch: Switch) -> None:
        switch(self)
        self.note_trouble()

    def note_trouble(self) -> None:
        """For the books: does everything get through at present?"""
        self.ledger.trouble(begins=any(fault.kind in TROUBLES for fault, _ in self.lasting))

    def of(self, kind: str) -> list[Fault]:
        """The faults of a kind that last now."""
        return [fault for fault, _ in self.lasting if fault.kind == kind]

    def said(self, kind: str, name: str) -> list[Any]:
        """What they say of something."""
        return [fault.args[name] for fault in self.of(kind)]

    def _fate(self, name: str, nth: int) -> Mode | None:
        if any(name in OUTAGES.get(str(what), {what}) for what in self.said("down", "what")):
            return "before"
        for kind, fate in FATES.items():
            for every in self.said(kind, "every"):
                self._since_injured += 1
                if self._since_injured % int(every) == 0:
                    return fate
        return None

    # --- who it happens to

    def job(self, replica: int) -> Job | None:
        """The newest Job of a replica."""
        return max(
            (job for job in self.world.cluster.jobs.values() if job.key[0] == replica),
            key=lambda job: job.key,
            default=None,
        )

    def node(self, replica: int) -> str | None:
        """The node on which its pod is."""
        job = self.job(replica)
        return job.pod.node if job and job.pod else None

    def machine(self, replica: int) -> str | None:
        """The machine under it, else the newest one that is to be."""
        mine = [one.name for one in self.machines() if f"-r{replica}-" in one.name]
        return self.node(replica) or (mine[-1] if mine else None)

    def machines(self) -> list[Instance]:
        """All that there are, in the order of their creation."""
        return list(self.world.cloud.instances.values())

    def tell(self, signal: str, message: Any = None) -> None:
        """A person sends the job a signal."""
        self.world.bridge.tell(WORKFLOW_ID, signal, message)

    def delete(self) -> None:
        """kubectl delete."""
        self.world.documents.deleting = True
        self.tell("shutdown", Shutdown(uid=self.world.documents.uid))


CLOUD = {
    "create_vm",
    "observe_create",
    "observe_vm",
    "delete_vm",
    "read_price",
    "find_preempted",
    "find_orphans",
    "check_machines",
}
REGISTRY = {
    "find_image", "pin_images", "delete_images", "find_orphaned_images", "find_stored", "save_outputs", "write_report",
}  # fmt: skip
SSH = {"start_join", "observe_join"}
TEMPORAL = {"ensure_vm", "adopt_orphan", "check_owner", "ask_market", "tell_market", "ask_hazard"}
KUBERNETES = {
    "load_job", "patch_spec", "preflight", "take_stock", "release_finalizers", "report", "write_vm_entry",
    "find_capacity", "create_replica", "observe_replica", "stop_replica", "save_logs", "shorten_logs", "read_progress",
    "create_checkpoint", "observe_checkpoint", "delete_checkpoint", "prepare_node", "observe_node", "cordon_and_drain",
    "delete_node", "revoke_token", "find_orphaned_objects", "remove_taint", "find_orphaned_claims", "remove_claim",
    "find_orphaned_holds", "sound_alarm", "answer_certificates", "find_strangers", "set_budget",
    "check_pod", "read_start", "find_cause",
}  # fmt: skip
OUTAGES = {"cloud": CLOUD, "registry": REGISTRY, "ssh": SSH, "temporal": TEMPORAL, "kubernetes": KUBERNETES}
FATES: dict[str, Mode] = {"answers_lost": "after", "calls_fail": "before", "calls_twice": "twice"}
TROUBLES = {"down", "signals_lost", "signals_late", *FATES, "registry_down", "bucket_down"}
