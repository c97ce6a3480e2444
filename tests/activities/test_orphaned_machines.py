"""VMs and Nodes that nobody owns are found. Nothing that is alive may be taken for an orphan."""

from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from activities.orphans.sources import left_behind, sources_by_project
from api import names
from api.market import MarketStart
from tests.activities.fleet_setting import ZONE, Fleet, fleet
from tests.activities.world import VM, eventually, run

__all__ = ["fleet"]


async def test_a_vm_of_a_job_that_is_gone_is_an_orphan(fleet: Fleet) -> None:
    name = await fleet.buy()
    await fleet.kube.delete(fleet.world.job_path)
    found = await fleet.sweep()
    (orphan,) = found.orphans
    assert (found.seen, found.unreadable, orphan.names) == (1, [], [name])
    assert (orphan.start.key, orphan.start.teardown, orphan.start.found) == (fleet.key, True, [f"{ZONE}/{name}"])
    assert (orphan.start.job_id, orphan.start.replica) == (fleet.job.job_id, 0)


async def test_a_vm_whose_own_workflow_was_terminated_is_an_orphan(fleet: Fleet) -> None:
    await fleet.open_job()
    await run(fleet.activities.ensure_vm, fleet.start)
    await fleet.end_vm()
    await fleet.buy()
    (orphan,) = (await fleet.sweep()).orphans
    assert orphan.start.job_name == fleet.job.name


async def test_a_vm_with_an_open_workflow_is_owned(fleet: Fleet) -> None:
    await fleet.kube.delete(fleet.world.job_path)
    await run(fleet.activities.ensure_vm, fleet.start)
    await fleet.buy()
    found = await fleet.sweep()
    assert (found.seen, found.orphans) == (1, [])


async def test_a_vm_whose_workflow_was_reset_is_owned(fleet: Fleet) -> None:
    """The first run under its id has ended then, and the second is open."""
    await fleet.kube.delete(fleet.world.job_path)
    await run(fleet.activities.ensure_vm, fleet.start)
    await fleet.end_vm()
    await run(fleet.activities.adopt_orphan, fleet.start)
    await fleet.buy()
    assert (await fleet.sweep()).orphans == []


async def test_a_vm_of_a_living_job_that_this_temporal_does_not_know_is_left_alone(fleet: Fleet) -> None:
    await fleet.buy()
    await fleet.node()
    found = await fleet.sweep()
    assert (found.seen, found.orphans) == (1, [])


async def test_a_young_vm_is_left_alone(fleet: Fleet) -> None:
    await fleet.buy()
    await fleet.kube.delete(fleet.world.job_path)
    found = await fleet.sweep(grace=600)
    assert (found.seen, found.orphans) == (1, [])


async def test_another_clusters_vms_are_not_seen(fleet: Fleet) -> None:
    await fleet.buy()
    fleet.cluster_id = "another"
    assert (await fleet.sweep()).seen == 0


async def test_a_project_that_cannot_be_listed_is_said(fleet: Fleet) -> None:
    fleet.gce.faults.withdraw_permissions("compute.instances.list")
    found = await fleet.sweep()
    assert found.orphans == []
    (reason,) = found.unreadable
    assert "compute.instances.list" in reason


async def test_a_node_whose_vm_is_gone_is_an_orphan(fleet: Fleet) -> None:
    """Its workflow was terminated after the VM's end and before the Node's. The same teardown does the rest."""
    name = await fleet.node()
    await fleet.kube.delete(fleet.world.job_path)
    (orphan,) = (await fleet.sweep()).orphans
    assert (orphan.names, orphan.start.found) == ([name], [f"{ZONE}/{name}"])


async def test_vm_and_node_of_a_name_are_one_machine(fleet: Fleet) -> None:
    name = await fleet.node()
    await fleet.buy()
    await fleet.kube.delete(fleet.world.job_path)
    found = await fleet.sweep()
    assert (found.seen, [orphan.names for orphan in found.orphans]) == (1, [[name]])


async def test_a_node_of_a_project_that_cannot_be_listed_is_left_alone(fleet: Fleet) -> None:
    await fleet.node()
    await fleet.forget_objects()
    fleet.gce.faults.withdraw_permissions("compute.instances.list")
    assert (await fleet.sweep()).orphans == []


async def test_a_node_that_says_it_is_another_machine_is_not_ours(fleet: Fleet) -> None:
    await fleet.node(providerID=f"gce://{fleet.project}/{ZONE}/somebody-elses")
    await fleet.forget_objects()
    assert (await fleet.sweep()).orphans == []


async def test_a_node_names_a_project_that_no_object_names_any_more(fleet: Fleet) -> None:
    name = await fleet.buy()
    await fleet.node()
    await fleet.forget_objects()
    (orphan,) = (await fleet.sweep()).orphans
    assert (orphan.names, orphan.start.spec.gcp.project) == ([name], fleet.project)


async def test_a_market_names_a_project_that_no_object_names_any_more(fleet: Fleet) -> None:
    await fleet.buy()
    await fleet.forget_objects()
    market: WorkflowHandle[object, object] = await fleet.temporal.start_workflow(
        names.MARKET_WORKFLOW,
        MarketStart(project=fleet.project),
        id=names.market_workflow_id(fleet.project),
        task_queue=names.TASK_QUEUE,
    )

    async def is_found() -> bool:  # lists of workflows come late
        return len((await fleet.sweep()).orphans) == 1

    await eventually("the VM is found", is_found)
    await market.terminate()


async def test_a_secret_that_is_not_shared_opens_no_project(fleet: Fleet, namespace: str) -> None:
    """Whoever writes a job must not let the sweep look around with somebody else's key."""
    body = {"metadata": {"name": "theirs", "annotations": {names.ANNOTATION_SHARED: "others"}}}
    await fleet.kube.create("/api/v1/namespaces/default/secrets", body)
    reference = {"gcpCredentialsSecretRef": {"name": "theirs", "namespace": "default"}}
    await fleet.kube.patch(fleet.world.job_path, {"spec": reference})
    try:
        await fleet.buy()
        found = await fleet.sweep()
        assert (found.seen, found.unreadable) == (1, [])  # the content of the Secret, which is no key, was not tried
    finally:
        await fleet.kube.delete("/api/v1/namespaces/default/secrets/theirs")


def test_a_jobs_credentials_are_tried_before_the_workers_own() -> None:
    vm = {"metadata": {"namespace": "ml", "name": "t4"}, "spec": VM}
    reference = {"name": "gcp"}
    jobs = [
        {
            "metadata": {"namespace": "ml", "name": name, "uid": name},
            "spec": {"spotInstanceVMRef": {"name": vm_name}, "gcpCredentialsSecretRef": reference},
        }
        for name, vm_name in [("a", "t4"), ("b", "t4"), ("c", "not-there")]
    ]
    (sources,) = sources_by_project([vm], jobs).values()
    assert [source.credentials and source.credentials.name for source in sources] == ["gcp", None]


def held(name: str, namespace: str, job: str, workflow: str, **fields: Any) -> dict[str, Any]:
    finalizer = names.job_finalizer(job)
    metadata = {"name": name, "namespace": namespace, "finalizers": [finalizer], "annotations": {finalizer: workflow}}
    return {"metadata": metadata, **fields}


@pytest.mark.parametrize(
    ("changes", "living", "found"),
    [
        ({}, [], ["vault/gcp"]),
        ({}, ["0000000a"], []),  # its own workflow looks after it
        ({"job": "0000000b"}, [], []),
        ({"workflow": "vault/b"}, [], []),
        ({"data": {"username": "x"}}, [], []),  # opens no cloud
    ],
)
def test_the_key_that_a_job_that_is_gone_still_holds_opens_its_project(
    changes: dict[str, Any], living: list[str], found: list[str]
) -> None:
    vm = held("t4", "ml", "0000000a", "ml/a", spec=VM)
    given = {"job": "0000000a", "workflow": "ml/a", "data": {"credentials.json": "x"}} | changes
    ways = left_behind([vm], [held("gcp", "vault", **given)], living).get(VM["gcp"]["project"], [])
    assert [f"{way.credentials.namespace}/{way.credentials.name}" for way in ways if way.credentials] == found


def test_nobody_has_a_key_tried_by_a_vm_of_his_own_that_says_so() -> None:
    forged = held("t4", "theirs", "0000000a", "ml/a", spec=VM)
    assert left_behind([forged], [held("gcp", "ml", "0000000a", "ml/a", data={"credentials.json": "x"})], []) == {}


async def test_a_placement_policy_goes_with_the_last_machine_of_its_gang(fleet: Fleet) -> None:
    policy, name = await fleet.place(), await fleet.buy()
    await fleet.kube.delete(fleet.world.job_path)
    (orphan,) = (await fleet.sweep()).orphans
    assert (orphan.start.placement, orphan.names, orphan.start.found) == (policy, [policy, name], [f"{ZONE}/{name}"])


async def test_a_placement_policy_that_is_left_alone_is_an_orphan(fleet: Fleet) -> None:
    policy = await fleet.place()
    await fleet.kube.delete(fleet.world.job_path)
    assert (await fleet.sweep(grace=600)).orphans == [], "its gang may be about to be bought"
    (orphan,) = (await fleet.sweep()).orphans
    assert (orphan.start.placement, orphan.names) == (policy, [policy])
    assert orphan.start.found == [f"{ZONE}/{names.vm_name(names.vm_key(fleet.job.job_id, 0, 0), 0)}"]
