"""The object is deleted: everything goes, and its finalizers last."""

from api import names
from tests.workflows.world import WORKFLOW_ID, World


async def test_deleted_before_it_was_admitted(world: World) -> None:
    world.documents.missing = "gcp"
    world.documents.vm_spec = None
    await world.submit(replicas=1)
    await world.until(lambda: world.documents.condition("Accepted"))
    await world.delete()
    assert await world.ended(within=120) == "Deleted"
    await world.nothing_left()


async def test_deleted_before_its_workflow_began(world: World) -> None:
    world.documents.deleting = True
    await world.delete()
    assert await world.ended(within=120) == "Deleted"
    assert world.of("preflight") == []


async def test_a_run_begun_by_the_deletion_takes_stock_of_what_another_left(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    await world.signal("checkpoint_now")
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    await world.handle.terminate("by a person with the CLI")
    await world.delete()
    assert await world.ended() == "Deleted"
    await world.nothing_left()


async def test_machines_of_terminated_workflows_are_torn_down_too(world: World) -> None:
    """Somebody terminated the workflows of the job and its VM. The Nodes still show the machines."""
    await world.submit(replicas=1)
    await world.running(1)
    await world.handle.terminate("by a person with the CLI")
    key = world.fleet.keys[0]
    await world.env.client.get_workflow_handle(names.vm_workflow_id(key)).terminate("by a person with the CLI")
    await world.delete()
    assert await world.ended() == "Deleted"
    await world.nothing_left()


async def test_a_cancel_means_shutdown(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    await world.handle.cancel()
    await world.pass_time(5)
    await world.handle.cancel()
    assert await world.ended() == "Cancelled"
    await world.nothing_left()


async def test_a_vms_cancel_is_a_release(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    name = world.node_of(0)
    await world.env.client.get_workflow_handle(names.vm_workflow_id(world.fleet.keys[0])).cancel()
    await world.until(lambda: name in world.cluster.nodes_gone)
    await world.running(1)
    assert world.node_of(0) != name


async def test_a_job_hears_at_once_of_a_vm_that_somebody_cancelled(world: World) -> None:
    world.cloud.refuse_deletes = 20
    await world.submit(replicas=1)
    await world.running(1)
    await world.env.client.get_workflow_handle(names.vm_workflow_id(world.fleet.keys[0])).cancel()
    await world.until(lambda: len(world.fleet.keys) == 2, within=30)
    assert len(world.cloud.instances) == 1, "the first one is still being deleted"


async def test_logs_are_saved_before_jobs_go(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.delete()
    await world.ended()
    saved = [call.at for call in world.of("save_logs")]
    stopped = [call.at for call in world.of("stop_replica")]
    assert saved
    assert min(saved) <= min(stopped)


async def test_a_log_that_cannot_be_had_holds_nothing_up(world: World) -> None:
    world.cluster.no_logs = True
    await world.submit(replicas=2)
    await world.running(2)
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2)
    await world.delete()
    await world.ended()
    await world.nothing_left()


async def test_a_pod_that_does_not_stop_is_forced_in_the_end(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.cluster.stuck_pods.add((0, 0))
    await world.delete()
    await world.ended()
    await world.nothing_left()


async def test_the_finalizers_named_are_those_of_what_was_used(world: World) -> None:
    await world.submit(replicas=1, checkpoint={"checkpointRepoCredentialRef": {"name": "registry"}})
    await world.running(1)
    await world.delete()
    await world.ended()
    assert world.documents.released.vm_name == "gpu"
    assert {secret.name for secret in world.documents.released.secrets} == {"gcp", "registry"}


async def test_a_machine_that_could_not_be_adopted_at_first_is_at_last(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    for workflow in (names.vm_workflow_id(world.fleet.keys[0]), WORKFLOW_ID):
        await world.env.client.get_workflow_handle(workflow).terminate("by a person with the CLI")
    world.down = {"adopt_orphan"}
    await world.delete()
    await world.pass_time(600)
    assert world.cloud.instances
    world.down = set()
    await world.until(lambda: not world.cloud.instances, within=600)
