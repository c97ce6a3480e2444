"""Why a pod does not run, on a real control plane: the real Job controller, admission and Events."""

import pytest

from activities.replicas.activities import ReplicaActivities
from activities.signatures import StartReading
from clients.kube import Kube
from tests.activities.world import World, eventually, run


@pytest.fixture
def replicas(kube: Kube, namespace: str) -> ReplicaActivities:
    return ReplicaActivities(kube, namespace)


async def told(world: World, replicas: ReplicaActivities, reason: str) -> StartReading:
    """Wait until that is the reason, and return what is read then."""
    found: list[StartReading] = []

    async def read() -> bool:
        found.append(await run(replicas.read_start, world.replica()))
        return found[-1].reason == reason

    await eventually(f"{reason} is read", read)
    return found[-1]


async def test_a_quota_is_told_in_the_job_controllers_words(world: World, replicas: ReplicaActivities) -> None:
    quota = {"metadata": {"name": "nothing"}, "spec": {"hard": {"pods": "0"}}}
    await world.kube.create(world.path("v1", "resourcequotas"), quota)
    await eventually(
        "the quota is in force",
        lambda: _has_status(world.kube, world.path("v1", "resourcequotas", "nothing")),
    )
    await run(replicas.create_replica, world.create_replica())
    reading = await told(world, replicas, "FailedCreate")
    assert "exceeded quota: nothing" in reading.message


async def test_a_service_account_that_is_not_there_is_told(world: World, replicas: ReplicaActivities) -> None:
    request = world.create_replica()
    request.job_template["spec"]["template"]["spec"]["serviceAccountName"] = "absent"
    await run(replicas.create_replica, request)
    assert '"absent" not found' in (await told(world, replicas, "FailedCreate")).message


async def test_the_scheduler_is_told_word_by_word(world: World, replicas: ReplicaActivities) -> None:
    await run(replicas.create_replica, world.create_replica())  # its node does not exist
    assert "nodes" in (await told(world, replicas, "Unschedulable")).message
    events = world.path("events.k8s.io/v1", "events")
    assert len(await world.kube.list(events)) > len(await world.kube.some(events, 1)) == 1


async def _has_status(kube: Kube, where: str) -> bool:
    return bool(((await kube.get(where)).get("status") or {}).get("hard"))
