"""``spec.outputs`` are uploaded after the training's own end, before its pod's machine goes."""

from typing import Any

from tests.workflows.world import World

STORAGE = {"type": "gcs", "bucket": "b", "pathPrefix": "team"}


async def submit(world: World, replicas: int = 1, **spec: Any) -> None:
    await world.submit(
        replicas=replicas, outputs=["/out"], checkpoint={"checkpointStorage": STORAGE}, maxRestarts=0, **spec
    )
    await world.running(replicas)


async def test_a_success_is_uploaded_before_its_machine_goes(world: World) -> None:
    await submit(world)
    world.bucket.output_calls = 3
    machine = world.node_of(0)
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    assert await world.ended() == "Completed"
    request = world.bucket.outputs[0]
    assert (request.paths, request.vm.name, request.ssh_user) == (["/out"], machine, "outlast")
    assert len(world.bucket.outputs) == 3
    assert world.of("save_outputs")[-1].at < world.cloud.gone[machine]
    condition = world.documents.condition("OutputsSaved")
    assert (condition.status, condition.reason) == ("True", "Uploaded")
    assert "b/team/outputs/r0" in condition.message


async def test_of_two_only_the_one_that_ended_is_uploaded(world: World) -> None:
    await submit(world, replicas=2)
    world.cluster.end_pod(world.cluster.job_of(1), 0)
    assert await world.ended() == "Completed"
    assert [call.ref.replica for call in world.bucket.outputs] == [1]


async def test_a_failure_is_uploaded_too(world: World) -> None:
    await submit(world)
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    assert await world.ended() == "Failed"
    assert len(world.bucket.outputs) == 1


async def test_a_bucket_that_does_not_answer_holds_the_machine_for_a_while_and_no_longer(world: World) -> None:
    await submit(world)
    world.bucket.down = True
    machine = world.node_of(0)
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    await world.pass_time(1500)
    assert machine in world.cloud.instances
    assert await world.ended(within=1200) == "Completed"
    condition = world.documents.condition("OutputsSaved")
    assert (condition.status, condition.reason) == ("False", "Transient")
    assert "the bucket does not answer" in condition.message
    assert world.documents.told("OutputsNotSaved")


async def test_a_runtime_that_is_not_known_is_told_at_once(world: World) -> None:
    await submit(world)
    world.bucket.no_layer = True
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    assert await world.ended(within=300) == "Completed"
    assert world.documents.condition("OutputsSaved").reason == "Unsupported"
    assert len(world.bucket.outputs) == 1


async def test_on_a_node_of_the_clusters_own_the_condition_says_what_helps(world: World) -> None:
    world.cluster.add_node("gpu-a")
    await submit(world)
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    assert await world.ended() == "Completed"
    condition = world.documents.condition("OutputsSaved")
    assert (condition.status, condition.reason) == ("False", "NotBought")
    assert "PersistentVolumeClaim" in condition.message


async def test_no_files_there_is_told(world: World) -> None:
    await submit(world)
    world.bucket.output_files = 0
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    assert await world.ended() == "Completed"
    assert world.documents.condition("OutputsSaved").reason == "NothingFound"


async def test_deletion_does_not_wait_for_them(world: World) -> None:
    await submit(world)
    world.bucket.down = True
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    await world.until(lambda: world.bucket.outputs)
    await world.delete()
    assert await world.ended(within=300) == "Deleted"
    await world.nothing_left()


async def test_whose_files_all_go_with_the_machine_is_warned(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    assert "spec.outputs" in world.documents.told("OutputsNotKept")[0]
