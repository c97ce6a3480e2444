"""The PodDisruptionBudget of a job, on a real control plane, with ``kubectl drain``."""

from typing import Any

import pytest

from activities.kubernetes.budgets import BudgetActivities
from activities.replicas.activities import ReplicaActivities
from activities.signatures import Budget, SetBudget
from api import names
from api.views import evicted_by_api
from clients.kube import Kube
from sandbox.errors import SandboxError
from tests.activities.world import World, eventually, run
from tests.sandbox.light_nodes import Nodes

NAME = "resnet-0a1b2c3d"


@pytest.fixture
def budgets(kube: Kube) -> BudgetActivities:
    return BudgetActivities(kube)


async def budget(world: World, budgets: BudgetActivities, exists: bool, **labels: str) -> Budget:
    return await run(budgets.set_budget, SetBudget(job=world.job, exists=exists, labels=labels))


async def drain(control_plane: Any, node: str, seconds: int) -> None:
    options = ("--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={seconds}s")
    await control_plane.kubectl("drain", node, *options)


async def is_counted(world: World) -> bool:
    budget = await world.kube.get(world.path("policy/v1", "poddisruptionbudgets", NAME))
    return bool((budget.get("status") or {}).get("currentHealthy") == 1)


async def test_a_drain_waits_as_long_as_the_budget_is_there_and_says_who_evicted(
    world: World, kube: Kube, namespace: str, budgets: BudgetActivities, nodes: Nodes, control_plane: Any
) -> None:
    replicas, node = ReplicaActivities(kube, namespace), await nodes.start()
    await run(replicas.create_replica, world.create_replica(node))
    await world.running(replicas.observe_replica, world.replica())
    assert await budget(world, budgets, True) == Budget(exists=True)
    assert await budget(world, budgets, True) == Budget(exists=True)  # as after a retry
    await eventually("the pod is counted", lambda: is_counted(world))
    with pytest.raises(SandboxError, match="disruption budget"):
        await drain(control_plane, node, 3)
    pod = (await run(replicas.observe_replica, world.replica())).pod
    assert pod is not None
    assert (pod.phase, pod.deleting, pod.disrupted) == ("Running", False, False)

    assert await budget(world, budgets, False) == Budget()
    assert await budget(world, budgets, False) == Budget()
    await drain(control_plane, node, 60)
    assert (await run(replicas.observe_replica, world.replica())).pod is None


async def test_an_evicted_pod_says_so_until_it_has_stopped(
    world: World, kube: Kube, namespace: str, nodes: Nodes
) -> None:
    replicas, node = ReplicaActivities(kube, namespace), await nodes.start()
    await run(replicas.create_replica, world.create_replica(node))
    pod = (await world.running(replicas.observe_replica, world.replica())).pod
    assert pod is not None
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod.name}}
    await kube.create(f"{world.path('v1', 'pods', pod.name)}/eviction", eviction)
    after = (await run(replicas.observe_replica, world.replica())).pod
    assert after is None or evicted_by_api(after.disruption)


async def test_none_is_made_beside_somebody_elses(world: World, budgets: BudgetActivities) -> None:
    spec = {"minAvailable": 1, "selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["llm"]}]}}
    await world.kube.create(
        world.path("policy/v1", "poddisruptionbudgets"), {"metadata": {"name": "theirs"}, "spec": spec}
    )
    assert await budget(world, budgets, True, app="llm") == Budget(beside="theirs")
    assert await budget(world, budgets, True, app="other") == Budget(exists=True)
    assert await budget(world, budgets, True, app="llm") == Budget(beside="theirs")
    left = await world.kube.list(world.path("policy/v1", "poddisruptionbudgets"))
    assert [each["metadata"]["name"] for each in left] == ["theirs"]


async def test_one_of_its_name_that_is_not_ours_is_left_alone(world: World, budgets: BudgetActivities) -> None:
    where = world.path("policy/v1", "poddisruptionbudgets")
    await world.kube.create(where, {"metadata": {"name": NAME}, "spec": {"minAvailable": 1}})
    assert await budget(world, budgets, True) == Budget(beside=NAME)
    assert await budget(world, budgets, False) == Budget(beside=NAME)
    assert len(await world.kube.list(where)) == 1


async def test_it_goes_with_its_job(world: World, budgets: BudgetActivities) -> None:
    await budget(world, budgets, True)
    made = await world.kube.get(world.path("policy/v1", "poddisruptionbudgets", NAME))
    assert [owner["uid"] for owner in made["metadata"]["ownerReferences"]] == [world.job.uid]
    assert made["metadata"]["labels"][names.LABEL_JOB] == world.job.job_id


async def test_of_a_gang_no_member_can_be_evicted(world: World, budgets: BudgetActivities) -> None:
    await run(budgets.set_budget, SetBudget(job=world.job, exists=True, members=4))
    found = await world.kube.get(world.path("policy/v1", "poddisruptionbudgets", NAME))
    assert found["spec"]["minAvailable"] == 4
