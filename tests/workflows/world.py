"""A simulated world on Temporal's virtual clock: every activity is a fake over it, and the test is its driver.

A test describes a story: ``submit`` the job, wait ``until`` a condition holds, let something happen, and check the
result. Between the steps virtual time runs: what is due on the world's clock happens, and the bridge reports it to the
workflows. The workflows of the VMs run beside the job's for real, with the signals between them.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowRunner

from activities import signatures as act
from activities.heartbeat import watch_seconds
from activities.temporal.market import MarketActivities
from api import names
from api.messages import PreemptionNotice, VmRelease
from api.spot_instance_job import JobStatusEntry
from api.views import ALIVE
from clients.search_attributes import Registration
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
from tests.workflows.preemptions import Preemptions
from workflows.diagnosis.workflow import Diagnosis
from workflows.job.workflow import SpotInstanceJob
from workflows.market.workflow import SpotMarket
from workflows.sweep.workflow import Sweep
from workflows.vm.workflow import SpotVM

T = TypeVar("T")
TASK_QUEUE = names.TASK_QUEUE
WORKFLOW_ID = names.job_workflow_id(NAMESPACE, NAME)
WORKFLOWS = [SpotInstanceJob, SpotVM, SpotMarket, Sweep, Diagnosis]
LONGEST_STEP = 15.0  # the longest step in seconds if nothing happens
# Without the sandbox, which takes a third of the time: tests/replay has it, and so has every worker of the tests on
# real parts.
RUNNER: WorkflowRunner = UnsandboxedWorkflowRunner()

ELSEWHERE = {
    "adopt_orphan", "find_orphans", "find_orphaned_objects", "find_orphaned_images", "find_orphaned_claims",
    "find_orphaned_holds", "remove_taint", "remove_claim", "sound_alarm", "find_stuck", "tell_stuck",
    "ask_hazard", "find_image", "find_stored", "find_strangers", "save_outputs", "write_report",
    "answer_certificates", "read_start", "find_cause", "diagnose",
    "revoke_token", "pin_images", "delete_images", "find_preempted",  # of runs that began on earlier releases
}  # fmt: skip
"""Activities that neither a training's life nor its end ever uses: each has tests of its own."""


WATCH_POLL = 1.0
"""Seconds between two looks of an activity that watches."""

SETTLED: dict[str, Callable[[Any, Any, Any], bool]] = {
    "observe_create": lambda _, request, progress: progress.done,
    "observe_vm": lambda _, request, view: not view.exists or view.status not in ALIVE,
    "delete_vm": lambda _, request, view: not view.exists,
    "start_join": lambda world, request, progress: (
        progress.state not in {"Booting", "Unreachable"} or not world.cloud.up_for(request.vm.name, 0)
    ),
    "observe_join": lambda world, request, progress: progress.state != "Running",
    "observe_node": lambda _, request, readiness: not readiness.gpu_operator or readiness.validated,
    "cordon_and_drain": lambda _, request, drained: not drained.remaining,
}
"""Activities that watch, and what ends it: of this world, the request and the result."""


@dataclass
class Call:
    """An activity that was carried out."""

    at: datetime
    name: str
    request: Any


@dataclass
class Fault:
    """A failure to inject into the ``nth`` call of an activity, before or after its effect."""

    name: str
    nth: int
    after: bool = False
    seen: int = 0


class Environment(Protocol):
    """A Temporal service and its time: simulated, or a real one."""

    client: Client
    clock: Clock  # everything that happens in the world is due on it

    async def settle(self) -> None:
        """Let everything that is due at this moment happen."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""

    async def watch(self, seconds: float) -> None:
        """Let an activity wait for so much time."""

    def driven(self) -> contextlib.AbstractContextManager[None]:
        """Leave it to the test to advance time while this is open: its calls that wait for an answer do not."""

    def worker(
        self,
        workflows: Sequence[type],
        activities: Sequence[Callable[..., Any]],
        runner: WorkflowRunner,
        **options: Any,
    ) -> contextlib.AbstractAsyncContextManager[Any]:
        """Run a worker while this is open."""


@dataclass
class World:
    """Everything outside the workflows."""

    env: Environment
    calls: list[Call] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    down: set[str] = field(default_factory=set)  # activities that fail while they are in here
    # Activities that are refused for good, each with the type of its error.
    denied: dict[str, str] = field(default_factory=dict)
    mistakes: list[BaseException] = field(default_factory=list)
    longest_step: float | None = None  # seconds, if nobody has to look each LONGEST_STEP
    patience: float = 1.0  # by which deadlines are longer, in real time: they find what hangs, not what is slow

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
        self.fleet.observe_vm, self.fleet.observe_node = self.cloud.observe_vm, self.cluster_calls.observe_node
        # No fake: it only reaches a workflow.
        self.market = MarketActivities(self.env.client, TASK_QUEUE, Registration(True))
        self.preemptions = Preemptions(self.env.client, self.cloud)

    # --- the worker

    def worker(self, **options: Any) -> contextlib.AbstractAsyncContextManager[Any]:
        """Make a worker with all workflows, and with every activity acting on this world."""
        activities = [self.activity(signature) for signature in act.ALL]
        return self.env.worker(WORKFLOWS, activities, RUNNER, **options)

    def activity(self, signature: act.Signature[Any, Any]) -> Callable[..., Any]:
        """Make the function that carries out an activity in this world."""
        part = self.part(signature)

        async def run(request: Any) -> Any:
            return await self._perform(signature, getattr(part, signature.name), request)

        run.__annotations__ = {"request": signature.takes, "return": signature.gives}
        return activity.defn(name=signature.name)(run)

    def part(self, signature: act.Signature[Any, Any]) -> Any:
        """Find the part of this world on which an activity acts: the one with a method of that name."""
        parts = [
            self.documents, self.cluster_calls, self.checkpoints, self.bucket, self.cloud, self.machines, self.fleet,
            self.market, self.preemptions,
        ]  # fmt: skip
        return next(part for part in parts if hasattr(part, signature.name))

    async def _perform(self, signature: act.Signature[Any, Any], fake: Callable[..., Any], request: Any) -> Any:
        try:
            if activity.info().started_time > self.clock.now:  # on a service with a time of its own
                self.clock.advance(activity.info().started_time)
            self._fail(signature.name, after=False)
            self.calls.append(Call(self.clock.now, signature.name, request))
            result = await self._watched(signature, fake, request)
            await self.bridge.flush()
            self._fail(signature.name, after=True)
            return result
        except AssertionError as mistake:  # the workflow would only retry it
            self.mistakes.append(mistake)
            raise

    async def _watched(self, signature: act.Signature[Any, Any], fake: Callable[..., Any], request: Any) -> Any:
        """Carry an activity out; one that watches goes on until what it sees is settled, as long as it may."""
        settled = SETTLED.get(signature.name)
        until = self.clock.now + timedelta(seconds=watch_seconds() if settled else 0)
        while True:
            result = fake(request)
            if isinstance(result, Awaitable):
                result = await result
            assert isinstance(result, signature.gives)
            if settled is None or settled(self, request, result) or self.clock.now >= until:
                return result
            await self.env.watch(WATCH_POLL)

    def _fail(self, name: str, *, after: bool) -> None:
        if name in self.down and not after:
            raise RuntimeError(f"{name} is down")
        if name in self.denied and not after:
            raise ApplicationError(f"{name} is refused", type=self.denied[name], non_retryable=True)
        for fault in self.faults:
            if fault.name == name and fault.after == after:
                fault.seen += 1
                if fault.seen == fault.nth:
                    raise RuntimeError(f"injected {'after' if after else 'before'} {name}")

    # --- the story

    async def submit(self, **spec: Any) -> None:
        """Apply the object, as kubectl does. The bridge begins the job's workflow."""
        self.documents.spec = job_spec(**spec)
        await self.bridge.start(self.documents.start)

    async def until(self, condition: Callable[[], Any], within: float = 900, what: str = "") -> None:
        """Let virtual time pass until the condition holds, for at most ``within`` seconds."""
        within *= self.patience
        deadline = self.clock.now + timedelta(seconds=within)
        while not condition():
            if self.clock.now >= deadline:
                raise AssertionError(f"not within {within:.0f} s: {what or 'the condition'}\n{self.told()}")
            await self._step((deadline - self.clock.now).total_seconds())

    async def pass_time(self, seconds: float) -> None:
        """Let so many seconds of virtual time pass."""
        end = self.clock.now + timedelta(seconds=seconds)
        while self.clock.now < end:
            await self._step((end - self.clock.now).total_seconds())

    async def _step(self, longest: float) -> None:
        """Go on to what is due next."""
        await self.bridge.flush()
        await self.env.settle()
        await self.env.sleep(min(longest, self.longest_step or LONGEST_STEP, self.clock.next_in()))
        await self.bridge.flush()
        if self.mistakes:
            raise self.mistakes[0]

    async def running(self, count: int = 2, within: float = 900) -> None:
        """Wait until so many replicas are Running, by the job's own status."""
        await self.until(lambda: self.active == count, within, f"{count} replicas Running")

    async def delete(self) -> None:
        """Delete the object, as kubectl does."""
        self.documents.deleting = True
        await self.bridge.shut_down(self.documents.start)

    async def ended(self, within: float = 3600) -> str:
        """Wait until the job's workflow has done its last act, and return its result."""
        await self.until(lambda: self.documents.released is not None, within, "the finalizers are released")
        result: str = await self.handle.result()
        assert self.calls[-1].name == "release_finalizers" or self.vm_calls_only_after_end()
        return result

    def vm_calls_only_after_end(self) -> bool:
        """Assert that after its last act only VMs act, because they are entities of their own."""
        last = max(index for index, call in enumerate(self.calls) if call.name == "release_finalizers")
        return all(call.name in VM_CALLS for call in self.calls[last + 1 :])

    async def nothing_left(self) -> None:
        """Assert that no VM, Node of ours, Job, CheckpointBackup or open workflow exists."""
        job_id = self.documents.start.job_id
        assert self.cloud.of_job(job_id) == []
        assert self.cloud.placements == set()
        assert [node.name for node in self.cluster.nodes.values() if node.owner] == []
        assert self.cluster.jobs == {}
        assert self.checkpoints.backups == {}
        assert await self.fleet.open_vms() == []
        assert self.documents.entries == {}

    # --- what people do

    @property
    def handle(self) -> WorkflowHandle[Any, Any]:
        """Return a handle of the job's workflow."""
        return self.env.client.get_workflow_handle(names.job_workflow_id(self.documents.namespace, self.documents.name))

    async def signal(self, name: str, message: Any = None) -> None:
        """Send a signal, as the temporal CLI does."""
        await self.handle.signal(name, args=[] if message is None else [message])

    async def request(self, name: str, *inputs: Any, id: str | None = None) -> str:
        """Make a request as ``temporal workflow update execute`` does, and return the answer."""
        return (await self.requests((name, *inputs), id=id))[0]

    async def requests(self, *requests: tuple[Any, ...], id: str | None = None) -> list[str]:
        """Make several requests at once."""
        return await self.meanwhile(self.handle.execute_update(name, args=inputs, id=id) for name, *inputs in requests)

    async def meanwhile(self, calls: Iterable[Awaitable[T]]) -> list[T]:
        """Let time pass until all these calls are answered."""
        answers = asyncio.gather(*calls)
        with self.env.driven():
            while not await _is_done(answers):
                await self._step(1.0)
        return await answers

    async def refused(self, name: str, *inputs: Any) -> str:
        """Make a request that fails, and return why it is refused or why nothing came of it."""
        with pytest.raises(WorkflowUpdateFailedError) as refusal:
            await self.request(name, *inputs)
        assert isinstance(refusal.value.cause, ApplicationError)
        return refusal.value.cause.message

    def notice(self, replica: int, seconds: float = 30, member: int = 0) -> str:
        """Give a preemption notice to the machine under a member of a replica, and return the machine's name."""
        name = self.node_of(replica, member)
        self.machines.notice(name, seconds)
        return name

    async def notice_by_hand(self, **fields: Any) -> None:
        """Announce the end of a node, as a person does."""
        await self.signal("preemption_notice", PreemptionNotice(**fields))

    async def release_vm(self, key: str, reason: str = "Test") -> None:
        """Release a VM, as the job does."""
        await self.env.client.get_workflow_handle(names.vm_workflow_id(key)).signal("release", VmRelease(reason=reason))

    # --- what is seen

    @property
    def active(self) -> int:
        """Count the replicas that the status shows as Running."""
        return self.documents.status.active_replicas or 0

    def entry(self, replica: int) -> JobStatusEntry:
        """Find a replica in the status."""
        entries = [entry for entry in self.documents.status.job_statuses if entry.replica == replica]
        return entries[0] if entries else JobStatusEntry(name="")

    def phase(self, replica: int) -> str | None:
        """Return its phase in the status."""
        return self.entry(replica).phase

    def stage(self) -> str:
        """Name the stage of the first VM as it is, whatever anybody reports."""
        name = self.cloud.created[0] if self.cloud.created else ""
        instance, node = self.cloud.known.get(name), self.cluster.nodes.get(name)
        if instance is None or not self.documents.entries:
            return ""
        if instance.deleting or (node is not None and node.marks):
            return "Deleting" if instance.deleting else "Noticed"
        if instance.running_at is None:
            return "Creating"
        joining = self.machines.joining.get(name)
        if joining != "Joined":
            return "Booting" if joining is None else "Joining"
        return "Ready" if node is not None and node.ready else "Registering"

    def node_of(self, replica: int, member: int = 0) -> str:
        """Find the node of its newest pod, or of that of another member."""
        node = self.cluster.job_of(replica).pods[member].node
        assert node is not None
        return node

    def nodes_of(self, replica: int) -> list[str]:
        """List the nodes of its newest pods, by member."""
        return [self.node_of(replica, member) for member in self.cluster.job_of(replica).members]

    def training(self) -> list[tuple[int, int]]:
        """List (replica, incarnation) of the trainings whose process runs."""
        return [job.key for job in self.cluster.training()]

    def job(self, replica: int, incarnation: int) -> Job:
        """Find the Job of an incarnation, also if it is gone."""
        return self.cluster.history[replica, incarnation]

    def of(self, name: str) -> list[Call]:
        """List the calls of an activity."""
        return [call for call in self.calls if call.name == name]

    def told(self) -> str:
        """Describe what people see now, for a test that failed."""
        documents = self.documents
        lines = [f"{event.at:%H:%M:%S} {event.reason}: {event.message}" for event in documents.events[-25:]]
        lines += [f"{entry.name} {entry.phase} {entry.message}" for entry in documents.status.job_statuses]
        lines += [f"{c.type}={c.status} {c.reason} {c.message}" for c in documents.status.conditions]
        lines += [f"… {call.at:%H:%M:%S} {call.name}" for call in self.calls[-15:]]
        return "\n".join(lines)


async def _is_done(answers: asyncio.Future[Any]) -> bool:
    """True if the answers have arrived, once the client has had its turns to read them."""
    for _ in range(50):
        await asyncio.sleep(0)
    return answers.done()


VM_CALLS = {
    "create_vm", "observe_create", "observe_vm", "delete_vm", "start_join", "observe_join", "revoke_token",
    "prepare_node", "observe_node", "cordon_and_drain", "delete_node", "check_owner", "write_vm_entry",
    "ask_market", "tell_market", "read_price", "find_preempted", "watch_preempted", "answer_certificates",
}  # fmt: skip
