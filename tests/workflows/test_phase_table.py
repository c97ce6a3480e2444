"""Each cell of the table in docs/phases.md is a test: a replica is brought into the phase, and the event comes."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from activities import signatures as act
from api import errors
from api.phases import Phase
from api.queues import QUEUE_LABEL
from tests.chaos.faults.credentials import CLOUD_KEY, REGISTRY_KEY, SSH_KEY
from tests.workflows.documents import job_spec, vm_spec
from tests.workflows.queue import Queue
from tests.workflows.world import RUNNER, World
from workflows.job.workflow import SpotInstanceJob

TABLE = Path(__file__).parents[2] / "docs" / "phases.md"
OTHER_ZONE = "us-central1-f"
NOT_A_TEST = ("—", "as ")


def table(number: int) -> dict[tuple[str, str], str]:
    """Read one of the page's tables of phases: (phase, event) → cell."""
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in TABLE.read_text().splitlines()
        if line.startswith("| ")
    ]
    starts = [index for index, row in enumerate(rows) if row[0] == "phase"]
    start = starts[number]
    header, *body = rows[start : start + 1 + len(get_args(Phase))]
    return {(row[0], event): cell for row in body for event, cell in zip(header[1:], row[1:], strict=True)}


def checked_cells(cells: dict[tuple[str, str], str]) -> list[tuple[str, str, str]]:
    """List (phase, event, outcome) of each cell that is a test."""
    found = {key: re.match(r"`([a-z ]+)`", cell) for key, cell in cells.items()}
    return [(*key, match.group(1)) for key, match in found.items() if match]


CELLS, REQUEST_CELLS = table(0), table(1)
TESTS, REQUEST_TESTS = checked_cells(CELLS), checked_cells(REQUEST_CELLS)


@pytest.mark.parametrize("cells", [CELLS, REQUEST_CELLS], ids=["events", "requests"])
def test_the_table_has_a_row_for_each_phase_and_no_empty_cell(cells: dict[tuple[str, str], str]) -> None:
    assert {phase for phase, _ in cells} == set(get_args(Phase))
    tests = {(phase, event) for phase, event, _ in checked_cells(cells)}
    others = {key: cell for key, cell in cells.items() if key not in tests}
    assert all(cell.startswith(NOT_A_TEST) for cell in others.values()), others


@dataclass
class Subject:
    """The replica that the event is about, and how it was then."""

    world: World
    replica: int
    incarnation: int
    node: str | None
    created: int

    @property
    def sibling(self) -> int:
        return 1 - self.replica


# --- into the phase


async def free_gpus(world: World, count: int) -> None:
    for number in range(count):
        world.cluster.add_node(f"gpu-{number}")


async def pending(world: World) -> None:
    await free_gpus(world, 1)
    await world.submit(replicas=1)
    await world.running(1)
    world.down.add("find_capacity")
    world.documents.edit(replicas=2)


async def preempted(world: World) -> None:
    await running(world)
    world.down.add("find_capacity")
    world.cluster.mark("gpu-1")
    world.machines.notice("gpu-1", 5)


async def queued(world: World) -> None:
    world.cluster.queue = Queue(world.cluster)
    world.documents.hold = act.Hold(by="queue research")
    template = {"metadata": {"labels": {QUEUE_LABEL: "research"}}, **job_spec().job_template}
    await free_gpus(world, 1)
    await world.submit(replicas=2, jobTemplate=template)
    await world.until(lambda: world.phase(0) == world.phase(1) == "Queued")
    await world.until(lambda: len(world.cluster.jobs) == 2)
    world.cluster.admit(world.cluster.job_of(0))
    await world.running(1)


async def provisioning(world: World) -> None:
    await free_gpus(world, 1)
    await world.submit(replicas=2)
    await world.running(1)
    await world.until(lambda: world.documents.entries)  # so the job knows which machine it gets


async def restoring(world: World) -> None:
    await running(world)
    world.checkpoints.dump_seconds = 300
    await notice(world, "gpu-1")
    await world.until(lambda: "waiting for checkpoint" in (world.entry(1).message or world.entry(0).message or ""))


async def starting(world: World) -> None:
    world.cluster.slow_start = 60
    await free_gpus(world, 2)
    await world.submit(replicas=2)
    await world.until(lambda: world.phase(1) == "Starting" and world.cluster.job_of(1).pod)


async def running(world: World, **spec: object) -> None:
    """Let both run, with replica 1 a little behind replica 0."""
    await free_gpus(world, 2)
    await world.submit(replicas=1, **spec)
    await world.running(1)
    await world.pass_time(5)
    world.documents.edit(replicas=2)
    await world.running(2)


async def judging(world: World) -> None:
    await running(world)
    world.cluster.end_pod(world.cluster.job_of(1), 0)


async def releasing(world: World) -> None:
    await running(world)
    # Longer than `drain`; on a machine that we did not buy, its kubelet has to report it.
    world.cluster.stop_seconds = 90
    await world.signal("suspend")
    await world.until(lambda: world.documents.told("CheckpointCompleted"))


async def released(world: World) -> None:
    await running(world)
    await world.signal("suspend")
    await world.until(lambda: world.phase(0) == "Suspended")


async def succeeded(world: World) -> None:
    await running(world, completionPolicy="All")
    world.cluster.end_pod(world.cluster.job_of(1), 0)


async def failed(world: World) -> None:
    await running(world, maxRestarts=0)
    world.cluster.end_pod(world.cluster.job_of(1), 1)


INTO: dict[str, Callable[[World], Awaitable[None]]] = {
    "Pending": pending,
    "Preempted": preempted,
    "Queued": queued,
    "Provisioning": provisioning,
    "Joining": provisioning,
    "Restoring": restoring,
    "Starting": starting,
    "Running": running,
    "Judging": judging,
    "Releasing": releasing,
    "Released": released,
    "Succeeded": succeeded,
    "Failed": failed,
}


async def into(world: World, phase: str) -> Subject:
    """Bring a replica into the phase and return it: the one of the higher index, if both are in it."""
    await INTO[phase](world)
    shown = "Suspended" if phase == "Released" else phase
    await world.until(lambda: shown in (world.phase(0), world.phase(1)), what=f"a replica is {phase}")
    replica = 1 if world.phase(1) == shown else 0
    incarnation = max((key[1] for key in world.cluster.history if key[0] == replica), default=-1)
    machines = [name for name in world.cloud.created if f"-r{replica}-" in name]
    return Subject(world, replica, incarnation, _node(world, replica) or next(iter(machines), None), len(machines))


def _node(world: World, replica: int) -> str | None:
    pods = [job.pod for job in world.cluster.jobs.values() if job.key[0] == replica and job.pod]
    return pods[-1].node if pods else None


# --- the events


async def notice(world: World, node: str) -> None:
    """Announce that the machine goes in twenty seconds; one that we did not buy goes with its Node."""
    world.machines.notice(node, 20)
    if node not in world.cloud.instances:
        world.clock.after(20.7, lambda: world.cluster.machine_died(node))
        world.clock.after(25.3, lambda: world.cluster.remove_node(node))


async def noticed(subject: Subject) -> None:
    if subject.node in subject.world.cluster.nodes:
        await notice(subject.world, subject.node)
    else:
        await subject.world.notice_by_hand(replica=subject.replica)


async def lost(subject: Subject) -> None:
    assert subject.node is not None
    subject.world.cloud.power_off(subject.node)
    subject.world.cluster.machine_died(subject.node)


async def ends_0(subject: Subject) -> None:
    subject.world.cluster.end_pod(subject.world.cluster.job_of(subject.replica), 0)


async def ends_1(subject: Subject) -> None:
    subject.world.cluster.end_pod(subject.world.cluster.job_of(subject.replica), 1)


async def pod_deleted(subject: Subject) -> None:
    subject.world.cluster.delete_pod(subject.world.cluster.job_of(subject.replica))


async def noticed_in_its_checkpoint(subject: Subject) -> None:
    world = subject.world
    await world.pass_time(30)
    world.cluster.job_of(subject.replica).pod.base += 1000  # type: ignore[union-attr]
    await world.signal("checkpoint_now")
    await world.until(lambda: world.checkpoints.history)
    await notice(world, world.node_of(world.checkpoints.history[0].replica))
    subject.replica = world.checkpoints.history[0].replica
    subject.node = world.node_of(subject.replica)


async def survivor_lost(subject: Subject) -> None:
    world = subject.world
    node = _node(world, subject.sibling)
    if node is not None:
        await notice(world, node)
        await world.pass_time(40)


async def suspend(subject: Subject) -> None:
    await subject.world.signal("suspend")


async def resize_down(subject: Subject) -> None:
    subject.world.documents.edit(replicas=1)


async def delete(subject: Subject) -> None:
    await subject.world.delete()


async def worker_restart(subject: Subject) -> None:
    """Replay the history into this phase, which a new worker does first."""
    replayer = Replayer(workflows=[SpotInstanceJob], workflow_runner=RUNNER, data_converter=pydantic_data_converter)
    await replayer.replay_workflow(await subject.world.handle.fetch_history())


async def vm_edited(subject: Subject) -> None:
    """Edit the zone and the disk, which only concerns the next purchase."""
    subject.world.documents.vm_spec = vm_spec(zone=OTHER_ZONE, diskType="pd-ssd")
    subject.world.documents.edit()


async def job_edited(subject: Subject) -> None:
    """Edit what may be edited of a job while it runs."""
    subject.world.documents.edit(max_restarts=7, checkpoint={"checkpointInterval": "3h"})


async def credentials_edited(subject: Subject) -> None:
    """Break all Secrets, and correct them five minutes later."""
    world = subject.world
    world.denied = dict.fromkeys([*CLOUD_KEY, *REGISTRY_KEY, *SSH_KEY], errors.INVALID)
    world.clock.after(300, world.denied.clear)


EVENTS: dict[str, Callable[[Subject], Awaitable[None]]] = {
    "notice on its node": noticed,
    "machine lost": lost,
    "pod ends 0": ends_0,
    "pod ends ≠ 0": ends_1,
    "pod deleted by somebody": pod_deleted,
    "notice, own checkpoint running": noticed_in_its_checkpoint,
    "survivor lost": survivor_lost,
    "suspend": suspend,
    "resize down": resize_down,
    "delete": delete,
    "worker restart": worker_restart,
    "VM edited": vm_edited,
    "job edited": job_edited,
    "credentials edited": credentials_edited,
}


# --- what holds afterwards


async def until_running_again(subject: Subject) -> None:
    world = subject.world

    def runs() -> bool:
        entry = world.entry(subject.replica)
        return entry.phase == "Running" and (entry.incarnation or 0) > subject.incarnation

    await world.until(runs, within=2400, what="it runs again")
    assert world.node_of(subject.replica) == world.entry(subject.replica).node_name


async def goes_on(subject: Subject) -> None:
    world = subject.world
    world.down.clear()
    if world.cluster.queue is not None:
        world.cluster.queue.give(9)
    await world.until(lambda: world.phase(subject.replica) == "Running", within=2400)
    assert world.entry(subject.replica).incarnation <= subject.incarnation + 1
    assert len([name for name in world.cloud.created if f"-r{subject.replica}-" in name]) <= max(1, subject.created)


async def elsewhere(subject: Subject) -> None:
    await until_running_again(subject)
    entry = subject.world.entry(subject.replica)
    assert entry.node_name != subject.node
    assert entry.restarts == 0


async def same_place(subject: Subject) -> None:
    await until_running_again(subject)
    entry = subject.world.entry(subject.replica)
    assert (entry.node_name, entry.restarts, entry.preemptions) == (subject.node, 0, 0)


async def restart(subject: Subject) -> None:
    await until_running_again(subject)
    entry = subject.world.entry(subject.replica)
    assert (entry.node_name, entry.restarts, entry.preemptions) == (subject.node, 1, 0)


async def success(subject: Subject) -> None:
    await subject.world.until(lambda: subject.world.documents.told("ReplicaSucceeded"), within=300)


async def let_go(subject: Subject) -> None:
    world = subject.world
    mine = f"-r{subject.replica}-"

    def gone() -> bool:
        jobs = [key for key in world.cluster.jobs if key[0] == subject.replica]
        machines = [name for name in world.cloud.instances if mine in name]
        return not jobs and not machines and world.phase(subject.replica) in {"Suspended", None}

    await world.until(gone, within=900, what="it is let go")
    assert world.documents.told("Completed") == []


async def torn_down(subject: Subject) -> None:
    assert await subject.world.ended() == "Deleted"
    await subject.world.nothing_left()


async def nothing(subject: Subject) -> None:
    world = subject.world
    before = world.phase(subject.replica)
    await world.pass_time(120)
    assert world.phase(subject.replica) == before
    assert max(key[1] for key in world.cluster.history if key[0] == subject.replica) == subject.incarnation


async def newest(subject: Subject) -> None:
    world = subject.world
    await world.until(lambda: world.phase(subject.replica) == "Running", within=2400)
    assert world.cloud.known[world.node_of(subject.replica)].zone == OTHER_ZONE


AFTERWARDS: dict[str, Callable[[Subject], Awaitable[None]]] = {
    "goes on": goes_on,
    "elsewhere": elsewhere,
    "same place": same_place,
    "restart": restart,
    "success": success,
    "let go": let_go,
    "torn down": torn_down,
    "nothing": nothing,
    "newest": newest,
}


@pytest.mark.parametrize(("phase", "event", "outcome"), TESTS)
async def test_cell(world: World, phase: str, event: str, outcome: str) -> None:
    subject = await into(world, phase)
    await EVENTS[event](subject)
    await AFTERWARDS[outcome](subject)


# --- the requests


REQUESTS: dict[str, Callable[[Subject], tuple[Any, ...]]] = {
    "suspend": lambda subject: ("suspend",),
    "resume": lambda subject: ("resume",),
    "resize up": lambda subject: ("resize", {"replicas": 3}),
    "checkpoint now": lambda subject: ("checkpoint_now",),
    "notice for this replica": lambda subject: ("preemption_notice", {"replica": subject.replica, "seconds": 60}),
}


@pytest.mark.parametrize(("phase", "asked", "outcome"), REQUEST_TESTS)
async def test_request(world: World, phase: str, asked: str, outcome: str) -> None:
    subject = await into(world, phase)
    name, *inputs = REQUESTS[asked](subject)
    if outcome == "refused":
        assert REQUEST_CELLS[phase, asked].partition(": ")[2] in await world.refused(name, *inputs)
        return
    before = len(world.of("patch_spec"))
    answer = await world.request(name, *inputs)
    if outcome == "nothing":
        assert "suspended" in answer
        assert len(world.of("patch_spec")) == before
    else:
        assert re.match(r"accepted: |checkpoint \d|\d replicas? |replica \d (of \d runs again on|was let go)", answer)
