"""Which checkpoints are kept and which go: CheckpointBackups, and images in the registry."""

from tests.workflows.world import World

OFTEN = {"checkpointInterval": "2m"}


async def running(world: World, **checkpoint: object) -> None:
    await world.submit(replicas=1, checkpoint={**OFTEN, **checkpoint})
    await world.running(1)


async def made(world: World, count: int) -> None:
    await world.until(lambda: len(world.documents.told("CheckpointCompleted")) == count, within=count * 150)
    await world.pass_time(20)


async def test_the_last_three_are_kept_with_their_backups_and_images(world: World) -> None:
    await running(world)
    await made(world, 5)
    assert sorted(world.checkpoints.backups) == [3, 4, 5]
    assert sorted(world.checkpoints.registry) == [backup.image for backup in world.checkpoints.history[2:]]


async def test_as_many_are_kept_as_the_spec_says_and_an_edit_counts(world: World) -> None:
    await running(world, retention={"keepLast": 4})
    await made(world, 4)
    assert len(world.checkpoints.registry) == 4
    config = world.documents.spec.checkpoint_config
    world.documents.edit(checkpoint={"retention": config.retention.model_copy(update={"keep_last": 1})})
    await made(world, 5)
    assert list(world.checkpoints.backups) == [5]
    assert list(world.checkpoints.registry) == [world.checkpoints.history[4].image]


async def test_the_one_that_is_being_restored_stays_until_it_runs(world: World) -> None:
    """Its pull takes so long that its sibling makes three newer ones meanwhile."""
    await world.submit(replicas=2, checkpoint={**OFTEN, "retention": {"keepLast": 1}})
    await world.running(2)
    await made(world, 1)
    world.cluster.slow_start = 600
    world.notice(1 - world.checkpoints.history[0].replica)
    await world.until(lambda: len(world.cluster.history) == 3)
    used = next(job for key, job in world.cluster.history.items() if key[1] == 1).request.restore.label.partition("@")[
        0
    ]
    await made(world, len(world.checkpoints.history) + 3)
    assert used in world.checkpoints.registry
    assert len(world.checkpoints.registry) == 2
    await world.running(2)
    await made(world, len(world.checkpoints.history) + 2)
    assert len(world.checkpoints.registry) == 2, "the furthest, and the only proven one"


async def test_the_only_proven_one_stays_until_another_is(world: World) -> None:
    await running(world, retention={"keepLast": 1})
    await made(world, 1)
    proven = world.checkpoints.history[0].image
    world.notice(0, seconds=3)
    await world.running(0)
    await world.running(1)
    await made(world, 4)
    assert sorted(world.checkpoints.registry) == sorted([proven, world.checkpoints.history[-1].image])
    world.notice(0, seconds=3)
    await world.running(0)
    await world.running(1)
    await made(world, 6)
    assert proven not in world.checkpoints.registry


async def test_a_registry_that_deletes_nothing_is_told_of_once(world: World) -> None:
    world.checkpoints.deletes_nothing = True
    await running(world)
    await made(world, 6)
    assert len(world.documents.told("ImagesNotDeleted")) == 1
    assert len(world.checkpoints.registry) == 6
    assert len(world.checkpoints.backups) == 3


async def test_a_registry_that_is_away_is_asked_again(world: World) -> None:
    await running(world)
    await made(world, 3)
    world.checkpoints.registry_down = True
    await made(world, 5)
    assert len(world.checkpoints.registry) == 5
    world.checkpoints.registry_down = False
    await made(world, 6)
    assert sorted(world.checkpoints.registry) == [backup.image for backup in world.checkpoints.history[3:]]
    assert world.documents.told("ImagesNotDeleted") == []


async def test_the_image_of_a_checkpoint_that_was_given_up_goes_when_it_comes_late(world: World) -> None:
    await running(world)
    world.checkpoints.dump_seconds = 3000
    await world.until(lambda: world.documents.told("CheckpointFailed"), within=1500)
    late = world.checkpoints.history[0]
    assert late.number not in world.checkpoints.backups
    world.checkpoints.dump_seconds = 8.0
    world.checkpoints.push(late.wanted_image(), late.progress, 1)
    await made(world, 25)
    assert late.wanted_image() not in world.checkpoints.registry


async def test_images_of_others_in_the_repository_stay(world: World) -> None:
    image = "registry.example/team/ckpt:ffffffff-p000000000500-1700000000"
    world.checkpoints.push(image, 500)
    await running(world, restoreFrom=image, retention={"keepLast": 1})
    await made(world, 2)
    world.notice(0, seconds=3)
    await world.running(0)
    await world.running(1)
    await made(world, 5)
    assert image in world.checkpoints.registry


async def test_a_registry_that_is_down_delays_a_recovery_and_never_fails_it(world: World) -> None:
    """There is an image on record. Only the kubelet asks the registry, and pulls until it can."""
    await running(world)
    await made(world, 2)
    world.checkpoints.registry_down = world.cluster.registry_down = True
    world.notice(0, seconds=3)
    await world.until(lambda: "ImagePullBackOff" in (world.entry(0).message or ""))
    await world.pass_time(3600)
    assert world.of("find_image") == []
    assert len(world.cloud.created) <= 5, "a VM that waits is given back, and the next is bought ever later"
    world.checkpoints.registry_down = world.cluster.registry_down = False
    await world.running(1, within=3700)
    assert world.checkpoints.history[1].tag in (world.entry(0).restored_from or "")
    assert world.entry(0).restarts == 0


async def test_an_image_whose_digest_was_not_to_be_had_is_pinned_later(world: World) -> None:
    world.checkpoints.registry_down = True
    await running(world)
    await made(world, 1)
    world.checkpoints.registry_down = False
    await made(world, 2)
    world.checkpoints.plans = ["fail"] * 20
    last, before = world.checkpoints.history[-1], world.checkpoints.history[0]
    world.checkpoints.registry.pop(last.image)
    world.cluster.bad[last.image] = "ImagePullBackOff: manifest unknown"
    world.notice(0, seconds=3)
    await world.running(0)
    await world.running(1, within=1800)
    label = next(job for key, job in world.cluster.history.items() if key[1] == 2).request.restore.label
    assert label.startswith(f"{before.image}@sha256:")
