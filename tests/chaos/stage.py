"""A world on which faults are played. Those that last are switched on and off again; the others happen at once."""

from collections.abc import Callable
from typing import Any, cast

from api import names
from api.messages import Shutdown
from tests.chaos.calls import Calls, Mode
from tests.chaos.ledger import Ledger
from tests.chaos.script import Fault
from tests.simulation.simulation import Simulation
from tests.workflows.cloud import Instance
from tests.workflows.cluster_objects import Job
from tests.workflows.world import WORKFLOW_ID, World

Switch = Callable[["Stage"], None]


class Stage:
    """One story's world, its books, and the faults that last at present."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ledger = Ledger.of(world)
        self.ledger.is_blocked, self.ledger.is_owned = self._is_blocked, self._is_owned
        self.calls = Calls(world, self.ledger)
        self.calls.fate = self._fate
        self.lasting: list[tuple[Fault, Switch]] = []
        self.worker_killed = False
        self._since_injured = 0

    # --- playing

    def begin(self, fault: Fault, switch: Switch) -> None:
        """Let a fault last from now on; ``switch`` sets the world by all present faults of its kind."""
        self.lasting.append((fault, switch))
        self._set(switch)
        self.world.clock.after(int(fault.args["seconds"]), lambda: self.end(fault, switch))

    def end(self, fault: Fault, switch: Switch) -> None:
        """End a fault."""
        if (fault, switch) in self.lasting:
            self.lasting.remove((fault, switch))
            self._set(switch)

    def end_all(self) -> None:
        """End all faults that last."""
        for fault, switch in list(self.lasting):
            self.end(fault, switch)

    def _set(self, switch: Switch) -> None:
        switch(self)
        self.note_disturbance()

    def note_disturbance(self) -> None:
        """Note in the books whether everything gets through at present."""
        self.ledger.disturbance(begins=any(fault.kind in DISTURBANCES for fault, _ in self.lasting))

    def _is_blocked(self) -> bool:
        documents = self.world.documents
        return bool(self.lasting) or documents.spec.suspend or documents.deleting

    def _is_owned(self, machine: str) -> bool:
        run = cast(Simulation, self.world.env).find(names.vm_workflow_id(names.vm_key_of(machine) or ""))
        return run is not None and run.is_open

    def of(self, kind: str) -> list[Fault]:
        """List the present faults of a kind."""
        return [fault for fault, _ in self.lasting if fault.kind == kind]

    def said(self, kind: str, name: str) -> list[Any]:
        """List one argument of the present faults of a kind."""
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
        """Find the newest Job of a replica, or of the only one in a story of a gang."""
        replica = 0 if self.members > 1 else replica
        return max(
            (job for job in self.world.cluster.jobs.values() if job.key[0] == replica),
            key=lambda job: job.key,
            default=None,
        )

    @property
    def members(self) -> int:
        """Count the members of each replica."""
        return self.world.documents.spec.members

    def member(self, replica: int) -> int:
        """Number the member to which something happens: in a story of a gang, the number of a replica says which."""
        return replica % self.members

    def node(self, replica: int) -> str | None:
        """Find the node of its pod."""
        job = self.job(replica)
        pod = job.pods.get(self.member(replica)) if job else None
        return pod.node if pod else None

    def machine(self, replica: int) -> str | None:
        """Find the machine under it, or else the newest one that is bought for it."""
        buyer = 0 if self.members > 1 else replica
        mine = [one.name for one in self.machines() if f"-r{buyer}-" in one.name]
        return self.node(replica) or (mine[-1] if mine else None)

    def machines(self) -> list[Instance]:
        """List all machines, in the order of their creation."""
        return list(self.world.cloud.instances.values())

    def tell(self, signal: str, message: Any = None) -> None:
        """Send a signal to the job, as a person does."""
        self.world.bridge.tell(WORKFLOW_ID, signal, message)

    def delete(self) -> None:
        """Delete the object, as kubectl does."""
        self.world.documents.deleting = True
        self.tell("shutdown", Shutdown(uid=self.world.documents.uid))


CLOUD = {
    "create_vm",
    "observe_create",
    "observe_vm",
    "look_at_vm",
    "delete_vm",
    "read_price",
    "find_preempted",
    "watch_preempted",
    "find_orphans",
    "check_machines",
}
REGISTRY = {
    "find_image", "pin_images", "delete_images", "find_orphaned_images", "find_stored", "save_outputs", "write_report",
}  # fmt: skip
SSH = {"start_join", "observe_join"}
TEMPORAL = {"ensure_vm", "adopt_orphan", "check_owner", "ask_market", "tell_market", "ask_hazard", "find_stuck"}
KUBERNETES = {
    "load_job", "patch_spec", "preflight", "take_stock", "release_finalizers", "report", "write_vm_entry",
    "record_cost",
    "find_capacity", "create_replica", "observe_replica", "stop_replica", "save_logs", "shorten_logs", "read_progress",
    "look_at_replicas",
    "tidy_checkpoints",
    "create_checkpoint", "observe_checkpoint", "delete_checkpoint", "prepare_node", "observe_node", "cordon_and_drain",
    "delete_node", "revoke_token", "find_orphaned_objects", "remove_taint", "find_orphaned_claims", "remove_claim",
    "find_orphaned_holds", "sound_alarm", "answer_certificates", "find_strangers", "set_budget",
    "check_pod", "read_start", "find_cause", "tell_stuck", "diagnose",
}  # fmt: skip
OUTAGES = {"cloud": CLOUD, "registry": REGISTRY, "ssh": SSH, "temporal": TEMPORAL, "kubernetes": KUBERNETES}
FATES: dict[str, Mode] = {"answers_lost": "after", "calls_fail": "before", "calls_twice": "twice"}
DISTURBANCES = {
    "down", "signals_lost", "signals_late", *FATES, "registry_down", "bucket_down", "cloud_key_lost",
    "registry_key_lost", "ssh_key_lost",
}  # fmt: skip
