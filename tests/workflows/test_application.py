"""In mode Application the training saves itself, and continues from what it has published."""

from typing import Any

from tests.workflows.world import World

STORAGE = {"type": "gcs", "bucket": "b", "pathPrefix": "team/llm/"}


async def training(world: World, replicas: int = 1, grace: int | None = None, **spec: Any) -> None:
    pod: dict[str, Any] = {"containers": [{"name": "train", "image": "train:1"}]}
    if grace is not None:
        pod["terminationGracePeriodSeconds"] = grace
    checkpoint = {"mode": "Application", "checkpointStorage": STORAGE, **spec.pop("checkpoint", {})}
    template = {"spec": {"template": {"spec": pod}}}
    await world.submit(replicas=replicas, checkpoint=checkpoint, jobTemplate=template, **spec)
    await world.running(replicas)


async def again(world: World, incarnation: int = 1, within: float = 900) -> None:
    await world.until(lambda: world.entry(0).incarnation == incarnation and world.phase(0) == "Running", within)


async def test_a_notice_makes_it_save_and_the_original_image_goes_on_from_there(world: World) -> None:
    await training(world)
    await world.pass_time(300)
    noticed_at = world.clock.now
    world.notice(0)
    await again(world)
    stops = [call for call in world.of("stop_replica") if not call.request.delete_job]
    assert (stops[0].at - noticed_at).total_seconds() < 3
    request = world.job(0, 1).request
    assert (request.restore.kind, request.restore.images) == ("Storage", {})
    assert request.restore.path == world.entry(0).restored_from == world.bucket.saved[0].path
    assert world.job(0, 1).pod.base >= 299
    assert world.checkpoints.history == []
    assert world.documents.condition("CheckpointsProven") is None


async def test_each_incarnation_has_a_prefix_of_its_own(world: World) -> None:
    await training(world)
    for incarnation in (1, 2):
        await world.pass_time(100)
        world.notice(0)
        await again(world, incarnation)
    prefixes = [saved.path.rpartition("/")[0] for saved in world.bucket.saved]
    job_id = world.documents.start.job_id
    assert prefixes == [f"team/llm/{job_id}/checkpoints/r0-i{number}" for number in (0, 1)]


async def test_one_cut_short_is_passed_over_for_one_that_is_less_far(world: World) -> None:
    await training(world)
    world.bucket.save_on_sigterm = False
    await world.pass_time(100)
    complete = world.bucket.save(world.job(0, 0))
    await world.pass_time(100)
    cut_short = world.bucket.save(world.job(0, 0), complete=False)
    world.notice(0, seconds=0)
    await again(world)
    assert world.entry(0).restored_from == complete.path
    assert cut_short.path in world.documents.told("CheckpointPassedOver")[0]


async def test_the_furthest_of_all_replicas_is_taken(world: World) -> None:
    await training(world, replicas=2)
    await world.pass_time(300)
    further = world.bucket.save(world.job(1, 0), progress=1000)
    world.notice(0)
    await again(world)
    assert world.entry(0).restored_from == further.path


async def test_one_that_makes_the_training_crash_twice_gives_way_to_an_older_one(world: World) -> None:
    await training(world, maxRestarts=5)
    await world.pass_time(200)
    older = world.bucket.save(world.job(0, 0))
    await world.pass_time(100)
    bad = world.bucket.save(world.job(0, 0))
    world.bucket.save_on_sigterm = False
    world.notice(0)
    for incarnation in (1, 2):
        await world.until(lambda seen=incarnation: world.training() == [(0, seen)])
        assert world.job(0, incarnation).request.restore.path == bad.path
        world.cluster.end_pod(world.cluster.job_of(0), 1)
    await again(world, 3)
    assert world.entry(0).restored_from == older.path


async def test_a_bucket_that_does_not_answer_is_waited_for(world: World) -> None:
    await training(world)
    await world.pass_time(300)
    world.bucket.down = True
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 0 and world.phase(0) == "Restoring")
    await world.pass_time(400)
    assert world.training() == []
    assert "the bucket does not answer" in world.entry(0).message
    world.bucket.down = False
    await again(world)
    assert world.job(0, 1).pod.base >= 299


async def test_nothing_published_yet_begins_anew(world: World) -> None:
    await training(world)
    world.bucket.save_on_sigterm = False
    world.notice(0)
    await again(world)
    assert world.job(0, 1).request.restore is None
    assert world.documents.told("ColdStart")


async def test_what_was_published_and_is_gone_is_for_a_person_to_decide(world: World) -> None:
    await training(world)
    await world.pass_time(100)
    world.notice(0)
    await again(world)
    world.bucket.saved.clear()
    world.bucket.save_on_sigterm = False
    world.notice(0)
    await world.until(lambda: "no usable checkpoint" in (world.entry(0).message or ""))
    looks = len(world.of("find_stored"))
    await world.pass_time(600)
    assert world.training() == []
    assert len(world.of("find_stored")) - looks <= 3
    world.documents.edit(checkpoint={"on_unrestorable": "ColdStart"})
    await again(world, 2)


async def test_suspend_gives_the_training_its_grace_and_resume_goes_on(world: World) -> None:
    world.cluster.stop_seconds = 200
    await training(world, grace=300)
    await world.pass_time(300)
    await world.signal("suspend")
    await world.until(lambda: world.phase(0) == "Suspended")
    assert world.cloud.instances == {}
    assert [call for call in world.of("stop_replica") if call.request.force] == []
    await world.signal("resume")
    await again(world)
    assert world.job(0, 1).pod.base >= 299


async def test_a_rehearsed_notice_leaves_the_machine_until_the_grace_is_over(world: World) -> None:
    world.cluster.stop_seconds = 200
    await training(world, grace=300)
    await world.pass_time(300)
    machine = world.node_of(0)
    noticed_at = world.clock.now
    await world.notice_by_hand(replica=0)
    await again(world)
    assert world.job(0, 1).pod.base >= 299
    assert (world.job(0, 0).pod is None or world.job(0, 0).pod.stopped_at) is not None
    assert machine in world.cloud.gone or machine in world.cloud.instances
    assert (world.job(0, 1).created_at - noticed_at).total_seconds() >= 200


async def test_a_predecessor_that_takes_long_to_end_is_looked_at_ever_more_rarely(world: World) -> None:
    world.cluster.stop_seconds = 3000
    await training(world, grace=3600)
    await world.notice_by_hand(replica=0)
    looks = len(world.of("observe_replica"))
    await world.pass_time(2900)
    assert world.job(0, 0).pod.stopped_at is None
    assert 2900 / 60 <= len(world.of("observe_replica")) - looks <= 2900 / 20
    await again(world)


async def test_restore_from_names_a_prefix_that_has_to_be_there(world: World) -> None:
    spec = {"mode": "Application", "checkpointStorage": STORAGE, "restoreFrom": "team/other"}
    await world.submit(replicas=1, checkpoint=spec)
    await world.until(lambda: "team/other" in (world.entry(0).message or ""))
    assert world.of("find_stored")[0].request.restore_from == "team/other"
    assert world.training() == []


async def test_people_see_whether_it_saves_itself_at_all(world: World) -> None:
    await training(world)
    await world.until(lambda: world.documents.condition("CheckpointPublished"), within=400)
    condition = world.documents.condition("CheckpointPublished")
    assert (condition.status, condition.reason) == ("False", "NoneYet")
    assert f"b/team/llm/{world.documents.start.job_id}/checkpoints" in condition.message
    saved = world.bucket.save(world.job(0, 0), progress=70)
    world.bucket.save(world.job(0, 0), progress=90, complete=False)
    await world.until(lambda: world.documents.condition("CheckpointPublished").status == "True", within=400)
    assert world.documents.condition("CheckpointPublished").message == f"progress 70: {saved.path}"
    assert world.documents.told("CheckpointPassedOver") == []
