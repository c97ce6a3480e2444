"""One story from its script to its end: the faults come and cease, and the job must end as documented."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from api import names
from tests.chaos.calls import Fate
from tests.chaos.faults import KINDS, cease
from tests.chaos.invariants import violations
from tests.chaos.jobs import runs_of, submit
from tests.chaos.opening import opened
from tests.chaos.script import Fault, Script
from tests.chaos.stage import Stage
from tests.simulation.simulation import Simulation
from tests.workflows.documents import OFTEN
from tests.workflows.machines import TOKEN_SECRET
from tests.workflows.world import WORKFLOW_ID, World

PATIENCE = 3 * 3600.0  # seconds after all faults, beyond the training's own length; the longest back-offs fit in
AFTERGLOW = 1800.0  # in which the VMs' workflows end after their job's


@dataclass
class Outcome:
    """How a story ended."""

    result: str
    violations: list[str]
    stage: Stage


async def play(script: Script, fate: Fate | None = None, beside: Callable[[Stage], None] | None = None) -> Outcome:
    """Play a script on a world of its own, and check what must be true.

    Args:
        script: the job, and what happens to it.
        fate: of each call, besides.
        beside: gets the stage before the story begins.
    """
    world = opened(int(script.job.get("course", 0)))
    stage = Stage(world)
    stage.ledger.planted = [TOKEN_SECRET]
    stage.calls.fate = fate or stage.calls.fate
    if beside is not None:
        beside(stage)
    with _Log() as log, runs_of(script.job):
        result, found = await _to_its_end(stage, script)
    stage.ledger.written["log"] = log.text
    return Outcome(result, [*found, *violations(stage.ledger)], stage)


def _schedule(stage: Stage, script: Script) -> None:
    for fault in script.faults:
        stage.world.clock.after(fault.at, lambda fault=fault: _strike(stage, fault))
    stage.world.clock.after(script.lasts, lambda: cease(stage))


def _strike(stage: Stage, fault: Fault) -> None:
    if stage.world.documents.released is None:
        KINDS[fault.kind].play(stage, fault)


async def _to_its_end(stage: Stage, script: Script) -> tuple[str, list[str]]:
    world, job = stage.world, script.job
    world.cluster.steps = float(job["steps"])
    resync = int(job.get("long", 0))
    looks = {"preempted_poll": 0, "resync": resync, "owner_check": 2 * resync} if resync else {}
    world.longest_step = resync or None
    poll = {"preempted_poll": float(job.get("poll", 60))}
    world.documents.timings = OFTEN.model_copy(update={**poll, **looks})
    try:
        await submit(world, job)
        _schedule(stage, script)
        await _until_released(stage, script.lasts + int(job["steps"]))
        async with world.worker():
            await _until_gone(stage)
            result = str(await world.handle.result())
            await _read_all(stage)
    except AssertionError as wrong:
        return "", [f"story: {wrong}"]
    except Exception as broken:  # in the service or the world: reported with its script as well
        return "", [f"broken: {broken!r}"]
    return result, [] if result in {"Completed", "Deleted"} else [f"story: ended as {result}"]


async def _until_released(stage: Stage, busy: float) -> None:
    """Wait until the job has done its last act. Each worker lives until it is killed, and another one takes over."""
    world = stage.world
    deadline = world.clock.now + timedelta(seconds=busy + PATIENCE)
    while world.documents.released is None:
        stage.worker_killed = False
        async with world.worker():
            left = (deadline - world.clock.now).total_seconds()
            await world.until(lambda: world.documents.released or stage.worker_killed, left, "the job's end")


async def _until_gone(stage: Stage) -> None:
    """Wait for the VMs, which are entities of their own. What is left after enough time counts as left behind."""
    world, ledger = stage.world, stage.ledger
    deadline = world.clock.now + timedelta(seconds=AFTERGLOW)
    while await world.fleet.open_vms() and world.clock.now < deadline:
        await world.pass_time(10)
    ledger.left += [f"workflow of {key}" for key in await world.fleet.open_vms()]
    ledger.left += [f"machine {name}" for name in world.cloud.of_job(world.documents.start.job_id)]
    ledger.left += [f"placement policy {name} in {region}" for region, name in world.cloud.placements]
    ledger.left += [f"node {node.name}" for node in world.cluster.nodes.values() if node.owner]
    ledger.left += [f"entry {name}" for name in world.documents.entries]
    if world.documents.deleting:
        ledger.left += [f"Job {job.name}" for job in world.cluster.jobs.values()]
        ledger.left += [f"CheckpointBackup {backup.name}" for backup in world.checkpoints.backups.values()]
    else:
        done = [job for job in world.cluster.jobs.values() if ledger.told("ReplicaSucceeded", f"replica {job.key[0]}:")]
        ledger.left += [f"Job {job.name}" for job in world.cluster.jobs.values() if job not in done]


async def _read_all(stage: Stage) -> None:
    """Collect everything that is kept or shown of this story."""
    world, written = stage.world, stage.ledger.written
    for workflow_id in [WORKFLOW_ID, *map(names.vm_workflow_id, world.fleet.keys)]:
        written[workflow_id] = await _histories(world, workflow_id)
    written["status"] = "".join(status.model_dump_json() for status in world.documents.statuses)
    written["Events"] = "".join(event.model_dump_json() for event in world.documents.events)
    written["requests"] = "".join(repr(call.request) for call in world.calls)


async def _histories(world: World, workflow_id: str) -> str:
    """Collect the histories of all its runs that are still known, back from the last one."""
    simulation = cast(Simulation, world.env)
    text, run_id = "", None
    while not text or (run_id and simulation.find(workflow_id, run_id)):
        events = (await world.env.client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()).events
        text += "".join(event.SerializeToString().decode("latin-1") for event in events)
        run_id = events[0].workflow_execution_started_event_attributes.continued_execution_run_id
    return text


class _Log(logging.Handler):
    """Collects everything that is logged meanwhile."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: list[str] = []
        self._logger = logging.getLogger("temporalio")

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(logging.Formatter("%(name)s %(message)s").format(record))

    def __enter__(self) -> "_Log":
        self._before = (self._logger.level, self._logger.propagate)
        self._logger.addHandler(self)
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.level, self._logger.propagate = self._before

    @property
    def text(self) -> str:
        """Return everything."""
        return "\n".join(self._lines)
