"""The condition ``PodsStart`` says whether pods run, and why not."""

from typing import Any

from tests.workflows.checkpoints import REPOSITORY
from tests.workflows.cluster_objects import Job
from tests.workflows.world import World

HOUR = 3600.0


def pods_start(world: World) -> tuple[str, str]:
    """Return the status and the reason of the condition."""
    condition = world.documents.condition("PodsStart")
    return (condition.status, condition.reason) if condition else ("", "")


async def test_nothing_is_said_of_pods_before_one_was_started(world: World) -> None:
    await world.submit(replicas=1)
    await world.until(lambda: world.phase(0) == "Provisioning")
    assert pods_start(world) == ("Unknown", "NoneStarted")


async def test_pods_that_run_have_started(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.pass_time(5)
    assert pods_start(world) == ("True", "PodsRun")


async def test_the_kubelets_words_are_told_while_a_restore_waits_for_the_registry(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.pass_time(1200)
    world.cluster.registry_down = True
    world.notice(0)
    await world.until(lambda: pods_start(world) == ("False", "ImagePullBackOff"), 900)
    said = world.documents.condition("PodsStart")
    assert said is not None
    assert "replica 0" in said.message
    assert "connection refused" in said.message
    assert len(world.documents.told("PodDoesNotStart")) == 1
    world.cluster.registry_down = False
    await world.until(lambda: pods_start(world) == ("True", "PodsRun"), 60)


def billed_hours(world: World) -> float:
    """Count the hours for which VMs existed."""
    ends = {name: world.cloud.gone.get(name) or world.clock.now for name in world.cloud.known}
    return sum((ends[name] - vm.created_at).total_seconds() for name, vm in world.cloud.known.items()) / HOUR


async def test_a_pod_that_admission_refuses_is_told_at_once_and_costs_one_machine(world: World) -> None:
    world.cluster.makes_no_pods = 'pods "llm-r0" is forbidden: exceeded quota: nothing, requested: pods=1'
    await world.submit(replicas=1)
    await world.until(lambda: world.phase(0) == "Starting")
    await world.until(lambda: pods_start(world) == ("False", "FailedCreate"), 120)
    said = world.documents.condition("PodsStart")
    assert said is not None
    assert "exceeded quota: nothing" in said.message
    await world.pass_time(3 * HOUR)
    assert len(world.cloud.created) == 1
    assert billed_hours(world) < 0.5
    assert pods_start(world) == ("False", "FailedCreate")
    world.cluster.makes_no_pods = ""
    await world.running(1, within=600)
    assert len(world.cloud.created) == 2


async def test_a_pod_that_nobody_makes_costs_one_machine(world: World) -> None:
    world.cluster._schedule = lambda job: None  # type: ignore[method-assign]
    await world.submit(replicas=1)
    await world.pass_time(3 * HOUR)
    assert len(world.cloud.created) == 1
    assert pods_start(world) == ("False", "NoPod")


async def test_a_job_that_waits_without_a_machine_is_deleted_as_any_other(world: World) -> None:
    world.cluster.makes_no_pods = "exceeded quota"
    await world.submit(replicas=1)
    await world.pass_time(HOUR)
    assert world.cloud.instances == {}
    await world.delete()
    await world.ended()
    await world.nothing_left()


async def test_an_init_container_at_work_is_not_late(world: World) -> None:
    world.cluster.slow_start = 1800
    await world.submit(replicas=1)
    await world.running(1, within=HOUR)
    assert len(world.cloud.created) == 1
    assert not world.documents.told("StartTimeout")


async def test_work_that_takes_longer_than_the_start_deadline_is_given_up(world: World) -> None:
    world.cluster.slow_start, world.cluster.busy = 1800, "image train:1 has been pulled since 10:00"
    await world.submit(replicas=1, startDeadline="15m")
    await world.pass_time(4 * HOUR)
    assert len(world.cloud.created) <= 7  # more and more rarely, down to once an hour
    assert pods_start(world) == ("False", "StartTimeout")
    assert "longer than startDeadline allows" in str(world.documents.condition("PodsStart"))


async def test_a_start_of_which_nothing_is_heard_is_given_up_ever_more_rarely(world: World) -> None:
    world.cluster.slow_start, world.cluster.busy = 1500, ""
    await world.submit(replicas=1)
    await world.pass_time(4 * HOUR)
    assert len(world.cloud.created) <= 6


async def test_what_we_let_go_of_ourselves_is_no_loss_to_the_market(world: World) -> None:
    world.cluster.slow_start, world.cluster.busy = 1500, ""
    await world.submit(replicas=1)
    await world.until(lambda: len(world.documents.told("StartTimeout")) == 1, HOUR)
    await world.pass_time(300)
    assert not [call for call in world.of("tell_market") if "Lost" in repr(call.request)]
    assert world.entry(0).preemptions == 0


async def test_a_missing_image_costs_little_until_it_is_pushed(world: World) -> None:
    world.cluster.missing_images = {"train:1"}
    await world.submit(replicas=2)
    await world.until(lambda: pods_start(world) == ("False", "ImagePullBackOff"))
    said = world.documents.condition("PodsStart")
    assert said is not None
    assert (
        "train:1: not found. Push the image, or correct its name or the imagePullSecrets in jobTemplate" in said.message
    )
    await world.pass_time(4 * HOUR)
    assert len(world.cloud.created) == 2
    assert billed_hours(world) < 1.5
    assert pods_start(world) == ("False", "ImagePullBackOff")
    world.cluster.missing_images.clear()
    await world.running(2, within=600)


async def test_a_cause_that_no_look_can_see_is_tried_once_an_hour(world: World) -> None:
    def cannot(job: Job, member: int) -> None:
        if job.pod is not None and not job.pod.deleting:
            job.pod.waiting_reason, job.pod.message = "CreateContainerConfigError", "no words"
            world.cluster.changed(job)

    world.cluster._start = cannot  # type: ignore[method-assign]
    await world.submit(replicas=1)
    await world.pass_time(4 * HOUR)
    assert len(world.cloud.created) <= 7
    assert billed_hours(world) < 1


async def test_an_edited_template_is_taken_up_at_once_while_nothing_has_run(world: World) -> None:
    world.cluster.missing_images = {"train:1"}
    await world.submit(replicas=1)
    await world.pass_time(HOUR)
    world.documents.edit(job_template=template_of("train:2"))
    await world.running(1, within=600)
    assert world.cluster.job_of(0).image == "train:2"


async def test_a_template_that_is_edited_on_a_waiting_machine_is_tried_there(world: World) -> None:
    world.cluster.missing_images = {"train:1"}
    await world.submit(replicas=1)
    await world.until(lambda: pods_start(world) == ("False", "ImagePullBackOff"))
    world.documents.edit(job_template=template_of("train:2"))
    await world.running(1, within=120)
    assert len(world.cloud.created) == 1


async def test_a_template_stays_as_it_is_once_a_pod_has_run(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.documents.edit(job_template=template_of("train:2"))
    await world.pass_time(60)
    accepted = world.documents.condition("Accepted")
    assert accepted is not None
    assert (accepted.status, accepted.reason) == ("False", "CannotBeChanged")


def template_of(image: str) -> dict[str, Any]:
    """Make a template with one container."""
    return {"spec": {"template": {"spec": {"containers": [{"name": "train", "image": image}]}}}}


async def test_nothing_is_called_well_or_lost_that_never_ran(world: World) -> None:
    world.cluster.missing_images = {"train:1"}
    await world.submit(replicas=1)
    await world.pass_time(HOUR)
    recovering = world.documents.condition("Recovering")
    assert recovering is not None
    assert (recovering.status, recovering.reason) == ("False", "NoReplicaRuns")
    assert world.phase(0) == "Pending"
    assert world.entry(0).preemptions == 0


async def test_a_command_that_does_not_exist_ends_the_training_as_its_own_failure(world: World) -> None:
    def cannot(job: Job, member: int) -> None:
        if job.pod is not None and not job.pod.deleting:
            job.pod.phase, job.pod.exit_code, job.pod.message = "Failed", 128, 'exec: "pythn": not found in $PATH'
            job.failed = "BackoffLimitExceeded"
            world.cluster.changed(job)

    world.cluster._start = cannot  # type: ignore[method-assign]
    await world.submit(replicas=1)
    await world.until(lambda: world.documents.condition("Failed") is not None, 2 * HOUR)
    assert any("pythn" in message for message in world.documents.told("ReplicaRestarts"))


async def test_an_image_of_another_job_does_not_count_as_having_run(world: World) -> None:
    image = f"{REPOSITORY}:yesterday"
    world.checkpoints.push(image, 500)
    world.cluster.makes_no_pods = "exceeded quota"
    await world.submit(replicas=1, checkpoint={"restoreFrom": image})
    await world.pass_time(HOUR)
    assert world.documents.status.started is False
    recovering = world.documents.condition("Recovering")
    assert recovering is not None
    assert (recovering.status, recovering.reason) == ("False", "NoReplicaRuns")


async def test_a_gpu_of_the_cluster_is_left_to_others_until_the_image_is_pushed(world: World) -> None:
    world.cluster.add_node("own")
    world.cluster.missing_images = {"train:1"}
    await world.submit(replicas=1)
    await world.until(lambda: pods_start(world) == ("False", "ImagePullBackOff"))
    await world.pass_time(4 * HOUR)
    assert world.cluster.running_on("own") == []
    assert world.cloud.created == []
    assert pods_start(world) == ("False", "ImagePullBackOff")
    world.cluster.missing_images.clear()
    await world.running(1, within=300)
    assert world.node_of(0) == "own"
