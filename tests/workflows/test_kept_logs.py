"""The places of a job's logs, and what people read of them."""

from typing import Any

from tests.workflows.world import World

STORAGE = {"type": "gcs", "bucket": "b", "pathPrefix": "team"}


async def submit(world: World, **spec: Any) -> None:
    await world.submit(replicas=1, checkpoint={"checkpointStorage": STORAGE}, **spec)
    await world.running(1)


async def lose(world: World) -> None:
    """Lose the machine, and wait until another runs."""
    incarnation = world.entry(0).incarnation or 0
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == incarnation + 1 and world.active == 1)


async def test_the_status_says_where_the_logs_are(world: World) -> None:
    await submit(world)
    assert world.entry(0).log is None
    await lose(world)
    assert world.entry(0).log == "gs://b/logs/r0"
    condition = world.documents.condition("LogsSaved")
    assert (condition.status, condition.reason) == ("True", "InBucket")


async def test_without_a_bucket_they_are_in_the_cluster_and_shortened_at_the_end(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    assert await world.ended() == "Completed"
    assert world.entry(0).log == "configmap/log"
    assert world.documents.condition("LogsSaved") is None
    (call,) = world.of("shorten_logs")
    assert (call.request.replicas, call.request.storage) == ([0, 1], None)
    assert call.at >= world.of("save_logs")[-1].at
    assert call.at <= world.of("release_finalizers")[-1].at


async def test_a_bucket_that_refuses_them_is_told_once_and_left_alone_for_a_while(world: World) -> None:
    await submit(world)
    world.cluster.bucket_refuses = True
    await lose(world)
    condition = world.documents.condition("LogsSaved")
    assert (condition.status, condition.reason) == ("False", "PermissionDenied")
    assert "the bucket refuses it" in condition.message
    assert world.entry(0).log == "configmap/log"
    await lose(world)
    asked = [call for call in world.of("save_logs") if call.request.storage is not None]
    assert len(asked) == 1
    assert len(world.documents.told("LogsNotInBucket")) == 1
    await world.pass_time(700)
    world.cluster.bucket_refuses = False
    await lose(world)
    assert world.documents.condition("LogsSaved").status == "True"


async def test_what_the_cluster_kept_moves_into_the_bucket_at_the_end(world: World) -> None:
    await submit(world)
    world.cluster.bucket_refuses = True
    await lose(world)
    world.cluster.bucket_refuses = False
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    assert await world.ended() == "Completed"
    assert world.documents.condition("LogsSaved").status == "True"


async def test_an_end_without_the_bucket_is_told_and_holds_nothing_up(world: World) -> None:
    await submit(world)
    world.cluster.bucket_refuses = True
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    assert await world.ended(within=600) == "Completed"
    condition = world.documents.condition("LogsSaved")
    assert condition.status == "False"
    assert "the end of each log is kept in its ConfigMap" in condition.message


async def test_logs_that_cannot_be_shortened_hold_nothing_up(world: World) -> None:
    await submit(world)
    world.down.add("shorten_logs")
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    assert await world.ended(within=1200) == "Completed"


async def test_a_deleted_jobs_logs_move_too(world: World) -> None:
    await submit(world)
    await world.delete()
    assert await world.ended() == "Deleted"
    assert [call.request.replicas for call in world.of("shorten_logs")] == [[0]]
    await world.nothing_left()
