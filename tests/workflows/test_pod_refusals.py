"""Admission refuses a pod: nothing is bought for it, people read why, and it continues within two minutes."""

import pytest

from tests.workflows.world import World

WORDS = "the API server refuses its pod: exceeded quota: gpus. Raise ResourceQuota team/gpus"


async def test_a_pod_that_would_be_refused_keeps_its_job_from_being_admitted(world: World) -> None:
    world.cluster.refuses_pods = WORDS
    await world.submit(replicas=2)
    await world.pass_time(12 * 3600)
    assert world.cloud.created == []
    accepted = world.documents.condition("Accepted")
    assert (accepted.status, accepted.reason, accepted.message) == ("False", "PodRefused", WORDS)
    world.cluster.refuses_pods = ""
    await world.until(lambda: world.documents.condition("Accepted").status == "True", within=125)
    await world.running(2)


async def test_a_running_job_is_not_stopped_by_a_refusal_of_one_more_pod(world: World) -> None:
    """Its own pods may be what fills the quota."""
    await world.submit(replicas=2)
    await world.running(2)
    world.cluster.refuses_pods = WORDS
    world.documents.edit(max_restarts=7)
    await world.pass_time(2 * 3600)
    assert world.documents.condition("Accepted").status == "True"
    assert world.training() == [(0, 0), (1, 0)]
    assert world.documents.condition("PodsStart") is None or world.documents.condition("PodsStart").status != "False"


async def test_nothing_is_bought_for_a_replacement_that_would_be_refused(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.cluster.refuses_pods = WORDS
    world.cloud.power_off(world.node_of(0))
    await world.until(lambda: (told := world.documents.condition("PodsStart")) and told.status == "False", within=300)
    told = world.documents.condition("PodsStart")
    assert told.reason == "PodRefused"
    assert WORDS in told.message
    await world.pass_time(12 * 3600)
    assert len(world.cloud.created) == 1
    assert WORDS in world.entry(0).message

    world.cluster.refuses_pods = ""
    await world.until(lambda: len(world.cloud.created) == 2, within=130)
    await world.running(1)
    assert world.documents.condition("PodsStart").status != "False"


async def test_a_refusal_is_one_event_however_often_it_is_asked(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.cluster.refuses_pods = WORDS
    world.cloud.power_off(world.node_of(0))
    await world.pass_time(6 * 3600)
    told = [event for event in world.documents.events if WORDS in event.message]
    assert len(told) == 1


async def test_a_job_whose_pod_is_refused_can_be_deleted(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.cluster.refuses_pods = WORDS
    world.cloud.power_off(world.node_of(0))
    await world.pass_time(3600)
    await world.delete()
    assert await world.ended() == "Deleted"
    await world.nothing_left()


@pytest.mark.parametrize("kind", ["CloudReady", "CredentialsReady"])
async def test_a_check_that_heals_is_seen_within_two_minutes(world: World, kind: str) -> None:
    world.documents.failing_checks = {kind}
    await world.submit(replicas=1)
    await world.pass_time(6 * 3600)
    world.documents.failing_checks = set()
    await world.until(lambda: world.documents.condition(kind).status == "True", within=125)


async def test_a_quota_for_fewer_pods_than_replicas_buys_no_more_vms_than_it_has_room_for(world: World) -> None:
    world.cluster.quota = 1
    await world.submit(replicas=2)
    await world.running(1)
    await world.pass_time(6 * 3600)
    assert len(world.cloud.created) == 1
    told = world.documents.condition("PodsStart")
    assert (told.status, told.reason) == ("False", "PodRefused")
    world.cluster.quota = 2
    await world.running(2, within=600)
    assert len(world.cloud.created) == 2


async def test_a_replica_that_is_replaced_needs_no_second_place_in_the_quota(world: World) -> None:
    world.cluster.quota = 2
    await world.submit(replicas=2)
    await world.running(2)
    world.notice(0)
    await world.until(lambda: (0, 1) in world.training(), within=900)
    assert len(world.cloud.created) == 3
    assert world.documents.told("PodDoesNotStart") == []
