"""Ends that Outlast itself causes: a checkpoint kills its training, or a restore does not last."""

from typing import Any

import pytest

from tests.workflows.cluster_objects import Job
from tests.workflows.world import World

HOUR = 3600.0
COLD_START = {"onUnrestorable": "ColdStart"}


def succeed(world: World) -> tuple[str, str | None, str | None]:
    condition = world.documents.condition("CheckpointsSucceed")
    assert condition is not None
    return condition.status, condition.reason, condition.message


def proven(world: World) -> str:
    condition = world.documents.condition("CheckpointsProven")
    return condition.status if condition else ""


def dumps(world: World) -> int:
    return len(world.of("create_checkpoint"))


# --- a checkpoint that kills


@pytest.mark.parametrize(("code", "late"), [(137, False), (137, True), (134, False)])
async def test_a_checkpoint_that_kills_its_training_is_no_restart(world: World, code: int, late: bool) -> None:
    """A memory limit is below what the dump needs, a probe fails during the freeze, or a watchdog aborts."""
    world.cluster.steps, world.checkpoints.kills, world.checkpoints.kills_late = 6 * HOUR, code, late
    await world.submit(replicas=1)
    await world.until(lambda: world.documents.told("CheckpointKilled"), within=HOUR)
    await world.running(1)
    status, reason, message = succeed(world)
    assert (status, reason) == ("False", "CheckpointKillsTraining")
    assert all(word in (message or "") for word in ("limits.memory", "probe", "checkpoint_now", f"exit code {code}"))
    await world.until(lambda: world.documents.condition("Completed"), within=48 * HOUR)
    assert world.entry(0).restarts == 0
    assert dumps(world) == 2, "an hour after the first, and a day after the second"


async def pauses(world: World) -> None:
    """Checkpoints pause because one killed the training. The next one would not."""
    world.checkpoints.kills = 137
    await world.submit(replicas=1)
    await world.until(lambda: world.documents.told("CheckpointKilled"), within=HOUR)
    await world.running(1)
    world.checkpoints.kills = None


async def test_a_person_has_the_next_checkpoint_made_at_once(world: World) -> None:
    await pauses(world)
    await world.signal("checkpoint_now")
    await world.until(lambda: world.documents.told("CheckpointCompleted"), within=60)
    assert succeed(world)[0] == "True"
    await world.until(lambda: dumps(world) == 3, within=700, what="the schedule to go on")


async def test_an_edit_of_the_interval_ends_the_pause(world: World) -> None:
    await pauses(world)
    world.documents.edit(checkpoint={"checkpoint_interval": "5m"})
    await world.until(lambda: world.documents.told("CheckpointCompleted"), within=400)


async def test_a_survivor_is_not_killed_to_help_another(world: World) -> None:
    world.checkpoints.kills = 137
    await world.submit(replicas=2)
    await world.until(lambda: world.documents.told("CheckpointKilled"), within=HOUR)
    await world.running(2)
    world.notice(1, 5)  # too short for a rescue
    await world.pass_time(600)
    assert dumps(world) == 1
    assert world.entry(0).restarts == world.entry(1).restarts == 0


async def test_a_machine_that_goes_is_dumped_all_the_same(world: World) -> None:
    """A last attempt costs nothing, because the machine goes anyway."""
    world.checkpoints.kills = 137
    await world.submit(replicas=1)
    await world.until(lambda: world.documents.told("CheckpointKilled"), within=HOUR)
    await world.pass_time(120)
    world.checkpoints.kills = None
    await world.notice_by_hand(replica=0, seconds=120)
    await world.until(lambda: world.documents.told("CheckpointCompleted"), within=60)
    await world.running(1)
    assert world.documents.told("Restored")


async def test_a_training_that_kills_itself_between_checkpoints_is_restarted(world: World) -> None:
    await world.submit(replicas=1)
    await world.until(lambda: world.documents.told("CheckpointCompleted"), within=HOUR)
    await world.pass_time(200)
    world.cluster.end_pod(world.cluster.job_of(0), 137)
    await world.until(lambda: world.entry(0).restarts == 1, within=120)
    assert not world.documents.told("CheckpointKilled")


async def test_a_training_that_exits_1_during_its_checkpoint_has_failed(world: World) -> None:
    world.checkpoints.kills = 1
    await world.submit(replicas=1)
    await world.until(lambda: world.entry(0).restarts == 1, within=HOUR)


def training(*containers: str, **spec: Any) -> dict[str, Any]:
    """Make a jobTemplate with these containers."""
    pod = {"restartPolicy": "Never", "containers": [{"name": name, "image": f"{name}:1"} for name in containers]}
    return {"spec": {"template": {"spec": pod}, **spec}}


async def test_a_checkpoint_that_kills_its_training_fails_no_job_by_its_failure_policy(world: World) -> None:
    fatal = {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [1]}}
    world.checkpoints.kills = 137
    await world.submit(replicas=1, jobTemplate=training("train", podFailurePolicy={"rules": [fatal]}))
    await world.until(lambda: world.documents.told("CheckpointKilled"), within=HOUR)
    await world.running(1)
    assert world.documents.condition("Failed") is None


async def test_another_container_that_is_killed_beside_the_main_one_is_not_the_trainings_end(world: World) -> None:
    world.checkpoints.kills = 1
    await world.submit(replicas=1, mainContainer="train", jobTemplate=training("train", "tensorboard"))
    await world.running(1)
    await world.until(lambda: dumps(world) == 1, within=HOUR)
    world.cluster.end_container(world.cluster.job_of(0), "tensorboard", 137)
    await world.until(lambda: world.entry(0).restarts == 1, within=HOUR)
    assert not world.documents.told("CheckpointKilled")


# --- a restore that breaks


@pytest.mark.parametrize(("after", "interval"), [(120.0, "1m"), (10.0, "10m"), (240.0, "10m")])
async def test_a_restore_that_breaks_its_training_costs_no_restart(world: World, after: float, interval: str) -> None:
    world.cluster.breaks_after = after
    await world.submit(replicas=1, checkpoint={**COLD_START, "checkpointInterval": interval})
    await world.running(1)
    await world.pass_time(HOUR)
    world.notice(0)
    await world.until(lambda: world.documents.told("ColdStart"), within=4 * HOUR, what="all images to be tried")
    assert proven(world) == "False"
    await world.until(lambda: world.training(), within=60)
    assert world.entry(0).restarts == 0
    assert world.cluster.job_of(0).request.restore is None
    assert len(world.cluster.history) <= 12


async def test_without_leave_to_begin_anew_a_person_decides(world: World) -> None:
    world.cluster.breaks_after = 10
    await world.submit(replicas=1)
    await world.running(1)
    await world.pass_time(HOUR)
    world.notice(0)
    await world.until(lambda: (c := world.documents.condition("Restorable")) and c.status == "False", within=4 * HOUR)
    assert world.documents.condition("Failed") is None
    assert len(world.cluster.history) <= 12


async def test_a_good_older_image_is_found(world: World) -> None:
    await world.submit(replicas=1)
    await world.until(lambda: dumps(world) == 2, within=HOUR)
    await world.pass_time(60)
    first = world.checkpoints.history[0].tag
    start = world.cluster._start

    def breaks(job: object, member: int) -> None:
        restore = job.request.restore  # type: ignore[attr-defined]
        world.cluster.breaks_after = 20 if restore and first not in restore.label else None
        start(job, member)  # type: ignore[arg-type]

    world.cluster._start = breaks  # type: ignore[method-assign,assignment]
    world.notice(0, 5)
    await world.until(lambda: proven(world) == "True", within=2 * HOUR)
    assert first in world.cluster.job_of(0).request.restore.label  # type: ignore[union-attr]
    assert world.entry(0).restarts == 0


@pytest.mark.parametrize("pattern", [{}, {"progress": None}])
@pytest.mark.parametrize("bug", [650.0, 900.0, 1900.0])
async def test_a_bug_at_one_step_is_the_trainings_own(world: World, bug: float, pattern: dict[str, None]) -> None:
    """It ends soon after each restore, too, but always at the same step."""
    world.cluster.bug_at = bug
    await world.submit(replicas=1, checkpoint=pattern)
    await world.until(lambda: world.documents.condition("Failed"), within=12 * HOUR)
    assert world.entry(0).restarts == 4
    assert len(world.cluster.history) <= 8


async def test_a_survivor_is_not_asked_without_end(world: World) -> None:
    """Its images break, too, so the attempts become rare."""
    world.cluster.breaks_after = 120
    await world.submit(replicas=2)
    await world.running(2)
    await world.pass_time(1200)
    world.notice(1)
    await world.pass_time(5 * HOUR)
    assert world.entry(1).restarts == 0
    assert world.training()[0] == (0, 0)
    assert len(world.cluster.history) <= 14


async def test_a_good_image_is_not_blamed_for_one_broken_machine(world: World) -> None:
    await world.submit(replicas=1)
    await world.until(lambda: dumps(world) == 1, within=HOUR)
    await world.pass_time(60)
    start = world.cluster._start

    def breaks(job: Job, member: int) -> None:
        node = job.pod.node if job.pod else None
        world.cluster.breaks_after = 20 if node == world.cloud.created[1] else None
        start(job, member)

    world.cluster._start = breaks  # type: ignore[method-assign]
    world.notice(0, 5)
    await world.until(lambda: proven(world) == "True", within=HOUR)
    assert world.entry(0).restored_from is not None
    assert len(world.cloud.created) == 3
    assert len(world.cloud.instances) == 1
    assert world.entry(0).restarts == 0


# --- what is proven


async def test_an_image_is_proven_by_a_minute_of_progress(world: World) -> None:
    await world.submit(replicas=1, checkpoint={"verifyRestore": True})
    await world.until(lambda: (1, 0) in world.training(), within=HOUR)
    await world.pass_time(40)
    assert proven(world) == "False"
    await world.until(lambda: proven(world) == "True", within=60)


async def test_without_a_pattern_a_minute_will_do(world: World) -> None:
    await world.submit(replicas=1, checkpoint={"verifyRestore": True, "progress": None})
    await world.until(lambda: (1, 0) in world.training(), within=HOUR)
    await world.until(lambda: proven(world) == "True", within=90)


async def test_an_image_whose_training_dies_at_once_is_not_proven(world: World) -> None:
    world.cluster.breaks_after = 10
    await world.submit(replicas=1, checkpoint={"verifyRestore": True})
    await world.running(1)
    await world.pass_time(2 * HOUR)
    condition = world.documents.condition("CheckpointsProven")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "EndedAfterRestore")
    assert "exit code 1" in (condition.message or "")
    assert len(world.documents.told("VerifiesRestore")) <= 3
