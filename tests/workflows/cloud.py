"""The world's cloud: its instances boot, are preempted, run out, and refuse to go."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from temporalio.exceptions import ApplicationError

from activities import signatures as act
from api import errors, names
from api.market import Candidate, PreemptedVm, Price
from api.views import VmView
from tests.simulation.clock import Clock

CREATE_SECONDS = 7.4  # from the create call to RUNNING
DELETE_SECONDS = 5.3


@dataclass
class Instance:
    """A GCE instance."""

    name: str
    zone: str
    labels: dict[str, str]
    instance_id: str
    created_at: datetime
    status: str = "PROVISIONING"
    running_at: datetime | None = None
    deleting: bool = False
    off: bool = False  # it is preempted, whatever is shown


@dataclass
class Cloud:
    """All instances of a project, and what the cloud is short of."""

    clock: Clock
    died: Callable[[str], None] = lambda name: None
    instances: dict[str, Instance] = field(default_factory=dict)
    gone: dict[str, datetime] = field(default_factory=dict)  # when each instance went
    created: list[str] = field(default_factory=list)
    asked: list[Candidate] = field(default_factory=list)  # the candidate of each creation
    stockouts: int = 0  # how many creations fail in their operation
    exhausted: set[str] = field(default_factory=set)  # zones and candidates that are out of stock
    limits: dict[str, int] = field(default_factory=dict)  # how many instances a zone has room for
    unclear: set[str] = field(default_factory=set)  # zones whose answers to creations are unclear
    prices: dict[str, float] = field(default_factory=dict)  # USD per hour by region and machine type
    preemptions: list[PreemptedVm] = field(default_factory=list)  # as the cloud's operations list them
    # The error for a creation, by what it asks for.
    refuses: Callable[[act.CreateVm], ApplicationError | None] = lambda request: None
    # The types of the errors with which the next creations fail at once.
    refuse_creates: list[str] = field(default_factory=list)
    refuse_deletes: int = 0
    failed: set[str] = field(default_factory=set)
    lingering: float = 0.0  # seconds for which a preempted instance is still shown as RUNNING
    known: dict[str, Instance] = field(default_factory=dict)
    placements: set[tuple[str, str]] = field(default_factory=set)  # the placement policies, by region and name
    watchers: list[Callable[[], object]] = field(default_factory=list)  # told of the next preemption

    # --- activities

    def create_vm(self, request: act.CreateVm) -> act.VmOperation:
        vm = request.vm
        if vm.placement:
            self.placements.add((names.region_of(vm.zone), vm.placement))
        found = self.instances.get(vm.name)
        if found is not None:
            self._refuse_strangers(vm, found)
            return act.VmOperation(name=None)
        if vm.name in self.created:
            return act.VmOperation(name=f"operation-{vm.name}")  # the same request id gives the same operation
        self.asked.append(request.candidate)
        if vm.zone in self.unclear:
            raise ApplicationError(f"503 from {vm.zone}")
        if refusal := self.refuses(request):
            raise refusal
        if self.refuse_creates:
            kind = self.refuse_creates.pop(0)
            raise ApplicationError(f"{kind} in {vm.zone}", type=kind, non_retryable=True)
        self.created.append(vm.name)
        if self.stockouts or self._is_full(vm.zone) or request.candidate.key in self.exhausted:
            self.stockouts -= 1 if self.stockouts else 0
            self.failed.add(vm.name)
            return act.VmOperation(name=f"operation-{vm.name}")
        self.boot(vm.name, vm.zone, vm.labels)
        return act.VmOperation(name=f"operation-{vm.name}")

    def _is_full(self, zone: str) -> bool:
        there = [instance for instance in self.instances.values() if instance.zone == zone]
        return zone in self.exhausted or len(there) >= self.limits.get(zone, len(there) + 1)

    def observe_create(self, request: act.ObserveCreate) -> act.CreateProgress:
        name = request.vm.name
        view = self.observe_vm(request.vm)
        if name in self.failed:
            return act.CreateProgress(
                done=True, error=errors.NO_CAPACITY, message="the zone has none of these now", vm=view
            )
        return act.CreateProgress(done=view.status not in {"PROVISIONING", "STAGING"}, vm=view)

    def observe_vm(self, vm: act.VmRef) -> VmView:
        found = self.instances.get(vm.name)
        if found is None or (vm.instance_id and found.instance_id != vm.instance_id):
            return VmView(exists=False, name=vm.name, zone=vm.zone)
        return VmView(
            exists=True,
            name=found.name,
            zone=found.zone,
            status=found.status,
            instance_id=found.instance_id,
            internal_ip="10.0.0.2",
            labels=found.labels,
            creation_time=found.created_at,
        )

    def read_price(self, request: act.ReadPrice) -> Price:
        return Price(usd_per_hour=self.prices.get(f"{request.candidate.region}/{request.candidate.machine_type}"))

    def find_preempted(self, request: act.FindPreempted) -> act.Preempted:
        found = [vm for vm in self.preemptions if vm.zone in request.zones and vm.at >= request.since]
        return act.Preempted(vms=found)

    def delete_vm(self, vm: act.VmRef) -> VmView:
        found = self.instances.get(vm.name)
        if found is None:
            self._delete_placement(vm)
            return VmView(exists=False, name=vm.name, zone=vm.zone)
        self._refuse_strangers(vm, found)
        if self.refuse_deletes:
            self.refuse_deletes -= 1
            raise ApplicationError(f"{vm.name} is not ready to be deleted")
        if not found.deleting:
            found.deleting, found.status = True, "STOPPING"
            self.died(vm.name)
            self.clock.after(DELETE_SECONDS, lambda: self._vanish(found))
        return self.observe_vm(vm)

    def _delete_placement(self, vm: act.VmRef) -> None:
        """Delete its placement policy, which the cloud refuses as long as an instance names it."""
        region, gang = names.region_of(vm.zone), names.gang_of_placement(vm.placement or "")
        if gang is None or vm.placement is None:
            return
        there = [instance for instance in self.instances.values() if names.region_of(instance.zone) == region]
        keys = [names.vm_key_of(instance.name) or "" for instance in there]
        if not any((names.job_id_in(key), names.replica_in(key)) == gang for key in keys if key):
            self.placements.discard((region, vm.placement))

    def _refuse_strangers(self, vm: act.VmRef, found: Instance) -> None:
        if any(found.labels.get(key) != value for key, value in vm.labels.items()):
            raise ApplicationError(f"{vm.name} is somebody else's", type=errors.CONFLICT, non_retryable=True)

    # --- what happens

    def boot(self, name: str, zone: str, labels: dict[str, str]) -> Instance:
        """Create an instance, which runs after a while."""
        number = len(self.known) + 1
        made = Instance(name, zone, labels, instance_id=str(1000 + number), created_at=self.clock.now)
        self.instances[name] = self.known[name] = made

        def runs() -> None:
            if made.status == "PROVISIONING":
                made.status, made.running_at = "RUNNING", self.clock.now

        self.clock.after(CREATE_SECONDS, runs)
        return made

    def power_off(self, name: str) -> None:
        """Preempt a machine, which may be shown as RUNNING for a while."""
        instance = self.instances.get(name)
        if instance is None:
            return
        instance.off = True
        self.died(name)
        operation = f"systemevent-{len(self.preemptions)}"
        self.preemptions.append(PreemptedVm(name=name, zone=instance.zone, operation=operation, at=self.clock.now))
        watchers, self.watchers = self.watchers, []
        for told in watchers:
            told()
        if self.lingering:
            self.clock.after(self.lingering, lambda: self._vanish(instance))
        else:
            self._vanish(instance)

    def _vanish(self, instance: Instance) -> None:
        if self.instances.get(instance.name) is instance:
            del self.instances[instance.name]
            self.gone[instance.name] = self.clock.now

    def up_for(self, name: str, seconds: float) -> bool:
        """True if the machine has run for so many seconds at least."""
        found = self.instances.get(name)
        since = found.running_at if found and found.status == "RUNNING" and not found.off else None
        return since is not None and (self.clock.now - since).total_seconds() >= seconds

    def of_job(self, job_id: str) -> list[str]:
        """List the names of a job's instances."""
        return [each.name for each in self.instances.values() if each.labels.get(names.GCE_LABEL_JOB) == job_id]
