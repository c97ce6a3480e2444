"""A simulated world on Temporal's virtual clock: every activity is a fake over it, and the test is its driver.

A test describes a story: ``submit`` the job, wait ``until`` something is so, let something happen, see what becomes of
it. Between the steps virtual time runs; what is due on the world's clock happens, and the bridge tells the workflows.
The workflows of the VMs run beside the job's for real, with the signals between them.
"""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowRunner

from activities import signatures as act
from activities.market import MarketActivities
from api import names
from api.messages import PreemptionNotice, VmRelease
from api.spot_instance_job import JobStatusEntry
from tests.simulation.clock import Clock
from tests.workflows.bridge import Bridge
from tests.workflows.bucket import Bucket
from tests.workflows.checkpoints import Checkpoints
from tests.workflows.cloud import Cloud
from tests.workflows.cluster import Cluster
from tests.workflows.cluster_calls import ClusterCalls
from tests.workflows.cluster_objects import Job
from tests.workflows.documents import NAME, NAMESPACE, Documents, job_spec
from tests.workflows.fleet import Fleet
from tests.workflows.machines import Machines
from workflows.spot_instance_job import SpotInstanceJob
from workflows.spot_market import SpotMarket
from workflows.spot_vm import SpotVM
from workflows.sweep import Sweep

TASK_QUEUE = names.TASK_QUEUE
WORKFLOW_ID = names.job_workflow_id(NAMESPACE, NAME)
WORKFLOWS = [SpotInstanceJob, SpotVM, SpotMarket, Sweep]
LONGEST_STEP = 15.0  # seconds in which nobody looks, where nothing goes on
# Without the sandbox, which is a third of the work: tests/replay has it, and every worker of the tests on real parts.
RUNNER: WorkflowRunner = UnsandboxedWorkflowRunner()

ELSEWHERE = {
    "adopt_orphan", "find_orphans", "find_orphaned_objects", "find_orphaned_images", "find_orphaned_claims",
    "find_orphaned_holds", "remove_taint", "remove_claim", "sound_alarm",
    "ask_hazard", "find_image", "find_stored", "find_strangers", "save_outputs", "write_report",
    "answer_certificates", "read_start", "find_cause",
}  # fmt: skip
"""Activities that neither a training's life nor its end ever asks for: each has tests of its own."""


@dataclass
class Call:
    """An activity that was carried out."""

    at: datetime
    name: str
    request: Any


@dataclass
class Fault:
    """A failure to inject: of the ``nth`` call of an activity, before or after its effect."""

    name: str
    nth: int
    after: bool = False
    seen: int = 0


class Environment(Protocol):
    """A Temporal service and its time: simulated, or a real one."""

    client: Client
    clock: Clock  # everything that happens in the world happens on it

    async def settle(self) -> None:
        """Let happen what happens at this moment."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""

    def worker(
        self,
        workflows: Sequence[type],
        activities: Sequence[Callable[..., Any]],
        runner: WorkflowRunner,
        **options: Any,
    ) -> contextlib.AbstractAsyncContextManager[Any]:
        """While this is open there is a worker."""


@dataclass
class World:
    """Everything outside the workflows."""

    env: Environment
    calls: list[Call] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    down: set[str] = field(default_factory=set)  # activities that fail as long as they are in here
    mistakes: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = self.env.clock
        self.bridge = Bridge(self.env.client, TASK_QUEUE)
        self.cloud = Cloud(self.clock)
        self.cluster = Cluster(self.clock, self.bridge.tell)
        self.cluster_calls = ClusterCalls(self.cluster)
        self.machines = Machines(self.cloud, self.cluster)
        self.checkpoints = Checkpoints(self.cluster, self.bridge.tell)
        self.bucket = Bucket(self.cluster)
        self.documents = Documents(self.cluster, self.checkpoints, self.bridge.tell)
        self.fleet = Fleet(self.env.client, TASK_QUEUE)
        self.market = MarketActivities(self.env.client, TASK_QUEUE)  # no fake: it only reaches a workflow

    # --- the worker

    def worker(self, **options: Any) -> contextlib.AbstractAsyncContextManager[Any]:
        """A worker with all workflows, and every activity acting on this world."""
        activities = [self.activity(signature) for signature in act.ALL]
        return self.env.worker(WORKFLOWS, activities, RUNNER, **options)

    def activity(self, signature: act.Signature[Any, Any]) -> Callable[..., Any]:
        """What carries out an activity in this world."""
        part = self.part(signature)

        async def run(request: Any) -> Any:
            return await self._perform(signature, getattr(part, signature.name), request)

        run.__annotations__ = {"request": signature.takes, "return": signature.gives}
        return activity.defn(name=signature.name)(run)

    def part(self, signature: act.Signature[Any, Any]) -> Any:
        """The part of this world on which an activity acts; it has a method of that name."""
        parts = [
            self.documents, self.cluster_calls, self.checkpoints, self.bucket, self.cloud, self.machines, self.fleet,
            self.market,
        ]  # fmt: skip
        return next(part for part in parts if hasattr(part, signature.name))

    async def _perform(self, signature: act.Signature[Any, Any], fake: Callable[..., Any], request: Any) -> Any:
        try:
            if activity.info().started_time > self.clock.now:  # on a service whose time is its own
                self.clock.advance(activity.info().started_time)
            self._fail(signature.name, after=False)
            self.calls.append(Call(self.clock.now, signature.name, request))
            result = fake(request)
            if isinstance(result, Awaitable):
                result = await result
            assert isinstance(result, signature.gives)
            await self.bridge.flush()
            self._fail(signature.name, after=True)
            return result
        except AssertionError as mistake:  # the workflow would only try again
            self.mistakes.append(mistake)
            raise

    def _fail(self, name: str, *, after: bool) -> None:
        if name in self.down and not after:
            raise RuntimeError(f"{name} is down")
        for fault in self.faults:
            if fault.name == name and fault.after == after:
                fault.seen += 1
                if fault.seen == fault.nth:
                    raise RuntimeError(f"injected {'after' if after else 'before'} {name}")

    # --- the story

    async def submit(self, **spec: Any) -> None:
        """kubectl apply, and the bridge begins the job's workflow."""
        self.documents.spec = job_spec(**spec)
        await self.bridge.start(self.documents.start)

    async def until(self, condition: Callable[[], Any], within: float = 900, what: str = "") -> None:
        """Let virtual time pass until something is so; ``within`` so many seconds."""
        deadline = self.clock.now + timedelta(seconds=within)
        while not condition():
            if self.clock.now >= deadline:
                raise AssertionError(f"not within {within:.0f} s: {what or 'the condition'}\n{self.told()}")
            await self._step((deadline - self.clock.now).total_seconds())

    async def pass_time(self, seconds: float) -> None:
        """Let so much virtual time pass."""
        end = self.clock.now + timedelta(seconds=seconds)
        while self.clock.now < end:
            await self._step((end - self.clock.now).total_seconds())

    async def _step(self, longest: float) -> None:
        """On to what is due next."""
        await self.bridge.flush()
        await self.env.settle()
        await self.env.sleep(min(longest, LONGEST_STEP, self.clock.next_in()))
        await self.bridge.flush()
        if self.mistakes:
            raise self.mistakes[0]

    async def running(self, count: int = 2, within: float = 900) -> None:
        """Until so many replicas are Running, in the job's own eyes."""
        await self.until(lambda: self.active == count, within, f"{count} replicas Running")

    async def delete(self) -> None:
        """kubectl delete."""
        self.documents.deleting = True
        await self.bridge.shut_down(self.documents.start)

    async def ended(self, within: float = 3600) -> str:
        """Until the job's workflow has done its last act; gives its result."""
        await self.until(lambda: self.documents.released is not None, within, "the finalizers are released")
        result: str = await self.handle.result()
        assert self.calls[-1].name == "release_finalizers" or self.vm_calls_only_after_end()
        return result

    def vm_calls_only_after_end(self) -> bool:
        """After the last act only VMs, entities of their own, still act."""
        last = max(index for index, call in enumerate(self.calls) if call.name == "release_finalizers")
        return all(call.name in VM_CALLS for call in self.calls[last + 1 :])

    async def nothing_left(self) -> None:
        """No VM, Node of ours, Job, CheckpointBackup or open workflow."""
        job_id = self.documents.start.job_id
        assert self.cloud.of_job(job_id) == []
        assert [node.name for node in self.cluster.nodes.values() if node.owner] == []
        assert self.cluster.jobs == {}
        assert self.checkpoints.backups == {}
        assert await self.fleet.open_vms() == []
        assert self.documents.entries == {}

    # --- what people do

    @property
    def handle(self) -> WorkflowHandle[Any, Any]:
        """The job's workflow."""
        return self.env.client.get_workflow_handle(names.job_workflow_id(self.documents.namespace, self.documents.name))

    async def signal(self, name: str, message: Any = None) -> None:
        """As the temporal CLI does."""
        await self.handle.signal(name, args=[] if message is None else [message])

    def notice(self, replica: int, seconds: float = 30) -> str:
        """The machine under a replica gets a preemption notice; gives its name."""
        name = self.node_of(replica)
        self.machines.notice(name, seconds)
        return name

    async def notice_by_hand(self, **fields: Any) -> None:
        """A person announces the end of a node."""
        await self.signal("preemption_notice", PreemptionNotice(**fields))

    async def release_vm(self, key: str, reason: str = "Test") -> None:
        """As the job does."""
        await self.env.client.get_workflow_handle(names.vm_workflow_id(key)).signal("release", VmRelease(reason=reason))

    # --- what is seen

    @property
    def active(self) -> int:
        """Replicas that the status says are Running."""
        return self.documents.status.active_replicas or 0

    def entry(self, replica: int) -> JobStatusEntry:
        """A replica in the status."""
        entries = [entry for entry in self.documents.status.job_statuses if entry.replica == replica]
        return entries[0] if entries else JobStatusEntry(name="")

    def phase(self, replica: int) -> str | None:
        """Its phase in the status."""
        return self.entry(replica).phase

    def node_of(self, replica: int) -> str:
        """The node on which its newest pod is."""
        pod = self.cluster.job_of(replica).pod
        assert pod is not None
        assert pod.node is not None
        return pod.node

    def training(self) -> list[tuple[int, int]]:
        """(replica, incarnation) of the trainings whose process runs."""
        return [job.key for job in self.cluster.training()]

    def job(self, replica: int, incarnation: int) -> Job:
        """The Job of an incarnation, also one that is gone."""
        return self.cluster.history[replica, incarnation]

    def of(self, name: str) -> list[Call]:
        """The calls of an activity."""
        return [call for call in self.calls if call.name == name]

    def told(self) -> str:
        """What people see now, for a test that failed."""
        documents = self.documents
        lines = [f"{event.at:%H:%M:%S} {event.reason}: {event.message}" for event in documents.events[-25:]]
        lines += [f"{entry.name} {entry.phase} {entry.message}" for entry in documents.status.job_statuses]
        lines += [f"{c.type}={c.status} {c.reason} {c.message}" for c in documents.status.conditions]
        lines += [f"… {call.at:%H:%M:%S} {call.name}" for call in self.calls[-15:]]
        return "\n".join(lines)


VM_CALLS = {
    "create_vm", "observe_create", "observe_vm", "delete_vm", "start_join", "observe_join", "revoke_token",
    "prepare_node", "observe_node", "cordon_and_drain", "delete_node", "check_owner", "write_vm_entry",
    "ask_market", "tell_market", "read_price", "find_preempted", "answer_certificates",
}  # fmt: skip
