"""What people request: suspend, resume, resize, checkpoint now."""

from api.messages import ReplicaChanged, Resize, Shutdown, SpecChanged
from api.spot_instance_job import SpotInstanceJobStatus
from api.views import ReplicaView
from tests.workflows.documents import refused
from tests.workflows.world import World


async def test_suspend_checkpoints_and_lets_go_of_all_machines(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    await world.pass_time(200)
    await world.signal("suspend")
    await world.until(lambda: world.phase(0) == "Suspended" and world.phase(1) == "Suspended")
    assert world.documents.spec.suspend is True
    assert len(world.checkpoints.history) == 1
    assert world.cloud.instances == {}
    assert world.cluster.jobs == {}
    assert world.documents.condition("Suspended").status == "True"


async def test_resume_restores_all_replicas(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    await world.pass_time(200)
    await world.signal("suspend")
    await world.until(lambda: not world.cloud.instances)
    await world.pass_time(600)
    await world.signal("resume")
    await world.running(2)
    assert all(job.pod.base >= 199 for job in world.cluster.training())
    assert world.documents.condition("Suspended").status == "False"
    assert world.entry(0).preemptions == 0


async def test_suspend_by_the_spec_is_the_same(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.documents.edit(suspend=True)
    await world.until(lambda: world.phase(0) == "Suspended")
    world.documents.edit(suspend=False)
    await world.running(1)
    assert world.cluster.training()[0].pod.base > 0


async def test_a_job_created_suspended_buys_nothing_until_resumed(world: World) -> None:
    await world.submit(replicas=2, suspend=True)
    await world.pass_time(600)
    assert world.cloud.created == []
    assert world.documents.condition("Suspended").status == "True"
    await world.signal("resume")
    await world.running(2)


async def test_suspend_in_the_middle_of_a_recovery_leaves_nothing_running(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    await world.pass_time(100)
    world.notice(0)
    await world.until(lambda: world.phase(0) == "Joining")
    await world.signal("suspend")
    await world.until(lambda: world.phase(0) == "Suspended" and world.phase(1) == "Suspended")
    await world.until(lambda: not world.cloud.instances)
    await world.signal("resume")
    await world.running(2)
    assert all(job.pod.base >= 99 for job in world.cluster.training())


async def test_resize_up_starts_another_replica_from_the_furthest_point(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.until(lambda: world.documents.told("CheckpointCompleted"))
    await world.signal("resize", Resize(replicas=2))
    await world.running(2)
    assert world.documents.spec.replicas == 2
    assert world.job(1, 0).pod.base >= 500


async def test_resize_down_lets_go_of_the_one_that_is_least_far(world: World) -> None:
    await world.submit(replicas=2)
    await world.running(2)
    await world.pass_time(100)
    world.notice(0)
    await world.until(lambda: world.phase(0) == "Provisioning")
    await world.signal("resize", Resize(replicas=1))
    await world.until(lambda: world.documents.status.replicas == 1 and len(world.documents.status.job_statuses) == 1)
    assert world.training() == [(1, 0)]
    await world.until(lambda: len(world.cloud.instances) == 1)


async def test_a_replica_scaled_down_and_up_again_takes_new_names(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.documents.edit(replicas=2)
    await world.running(2)
    world.documents.edit(replicas=1)
    await world.until(lambda: len(world.cloud.instances) == 1 and len(world.documents.status.job_statuses) == 1)
    world.documents.edit(replicas=2)
    await world.running(2)
    assert (1, 1) in world.training()
    assert len(set(world.cloud.created)) == 3


async def test_checkpoint_now_does_not_wait_for_the_interval(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.signal("checkpoint_now")
    await world.until(lambda: world.documents.told("CheckpointCompleted"), within=30)
    assert "AskedFor" in world.documents.told("CheckpointCompleted")[0]


async def test_checkpoint_now_before_anything_runs_is_answered_and_harmless(world: World) -> None:
    world.documents.missing = "gcp"
    await world.submit(replicas=1)
    await world.signal("checkpoint_now")
    await world.pass_time(30)
    world.documents.missing = None
    await world.running(1)
    assert len(world.documents.told("CheckpointNotPossible")) == 1


async def test_checkpoint_now_in_mode_application_is_refused(world: World) -> None:
    await world.submit(replicas=1, checkpoint={"mode": "Application"})
    await world.running(1)
    await world.signal("checkpoint_now")
    await world.until(lambda: world.documents.told("CheckpointNotPossible"), within=30)


async def test_the_status_query_says_what_the_object_says(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    answer = await world.handle.query("status")
    assert answer["jobStatuses"][0]["phase"] == "Running"
    assert answer["jobID"] == world.documents.start.job_id


async def test_an_order_that_the_api_server_refuses_is_told_and_blocks_nothing(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)

    def refuse(request: object) -> None:
        raise refused("spec.replicas: immutable today")

    world.documents.patch_spec = refuse  # type: ignore[method-assign, assignment]
    await world.signal("resize", Resize(replicas=3))
    await world.until(lambda: world.documents.told("WishRefused"))
    world.documents.edit(max_restarts=5)
    await world.until(lambda: world.documents.status.observed_generation == 2)


async def test_messages_about_other_objects_are_dropped(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    await world.signal("shutdown", Shutdown(uid="another object of this name"))
    await world.signal("spec_changed", SpecChanged(uid="another object of this name", generation=9))
    gone = ReplicaView(job_name="x", job_exists=False)
    for job_id, version in (("0badcafe", 10**9), (world.documents.start.job_id, 1)):
        message = ReplicaChanged(job_id=job_id, replica=0, incarnation=0, version=version, view=gone)
        await world.signal("replica_changed", message)
    await world.pass_time(120)
    assert world.training() == [(0, 0)]
    assert world.active == 1


async def test_suspend_asks_again_where_its_checkpoint_fails(world: World) -> None:
    world.checkpoints.plans = ["fail"] * 3
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "5h"})
    await world.running(1)
    await world.pass_time(3000)
    await world.signal("suspend")
    await world.until(lambda: world.phase(0) == "Suspended")
    assert len(world.checkpoints.history) == 4
    await world.signal("resume")
    await world.running(1)
    assert world.job(0, 1).pod.base >= 2990


async def test_suspend_waits_for_its_checkpoint_however_long_that_fails(world: World) -> None:
    """The operator is unreachable for hours. The training continues, and is suspended with all its work."""
    world.checkpoints.plans = ["fail"] * 500
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "5h"})
    await world.running(1)
    await world.signal("suspend")
    await world.pass_time(7200)
    condition = world.documents.condition("Suspended")
    assert (condition.status, condition.reason) == ("False", "CheckpointFailed")
    assert "spec.suspendUnsaved" in condition.message
    assert world.active == 1
    assert len(world.checkpoints.history) < 35  # every five minutes in the end
    world.checkpoints.plans.clear()
    await world.until(lambda: world.phase(0) == "Suspended", within=400)
    await world.signal("resume")
    await world.running(1)
    assert world.job(0, 1).pod.base >= 7000


async def test_a_person_may_suspend_without_a_checkpoint(world: World) -> None:
    world.checkpoints.plans = ["fail"] * 50
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "5h"})
    await world.running(1)
    await world.signal("suspend")
    await world.pass_time(300)
    assert world.active == 1
    world.documents.edit(suspend_unsaved=True)
    await world.until(lambda: world.phase(0) == "Suspended", within=60)
    [lost] = [event.message for event in world.documents.events if event.reason == "SuspendedUnsaved"]
    assert "will continue from the beginning when resumed" in lost


async def test_suspend_waits_for_a_node_that_is_silent_for_a_while(world: World) -> None:
    await world.submit(replicas=1, checkpoint={"checkpointInterval": "5h"})
    await world.running(1)
    await world.pass_time(1000)
    world.cluster.set_ready(world.node_of(0), False)
    await world.pass_time(5)
    await world.signal("suspend")
    await world.pass_time(60)
    assert world.phase(0) == "Running"
    condition = world.documents.condition("Suspended")
    assert (condition.status, condition.reason) == ("False", "NodeNotReady")
    world.cluster.set_ready(world.node_of(0), True)
    await world.until(lambda: world.phase(0) == "Suspended", within=120)
    assert len(world.documents.told("CheckpointCompleted")) == 1


async def test_a_process_that_may_still_run_on_a_machine_of_others_is_never_doubled(world: World) -> None:
    world.cluster.add_node("gpu-a")
    await world.submit(replicas=1)
    await world.running(1)
    world.cluster.stuck_pods.add((0, 0))
    await world.signal("suspend")
    await world.until(lambda: world.phase(0) == "Releasing")
    await world.pass_time(3600)
    assert [call for call in world.of("stop_replica") if call.request.force] == []
    assert "waiting for incarnation 0 on gpu-a to stop" in (world.entry(0).message or "")
    assert len(world.of("stop_replica")) <= 3600 / 20
    await world.signal("resume")
    world.cluster.unstick(world.job(0, 0))
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1, within=300)


async def test_a_process_that_does_not_stop_on_a_machine_of_ours_goes_with_it(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.cluster.stuck_pods.add((0, 0))
    world.cluster.delete_pod(world.job(0, 0))
    await world.until(lambda: "to stop" in (world.entry(0).message or ""))
    await world.signal("suspend")
    await world.until(lambda: world.phase(0) == "Suspended", within=300)
    assert world.cloud.instances == {}


async def test_of_two_the_failed_one_is_let_go_of_also_while_it_is_kept(world: World) -> None:
    await world.submit(replicas=2, maxRestarts=0, keepFailedFor="2h", completionPolicy="Any")
    await world.running(2)
    world.cluster.end_pod(world.cluster.job_of(0), 1)
    await world.until(lambda: world.entry(0).kept_until is not None)
    await world.signal("resize", Resize(replicas=1))
    await world.pass_time(120)
    assert world.training() == [(1, 0)]
    assert world.documents.condition("Failed") is None


async def test_an_order_that_cannot_be_written_keeps_no_edit_from_being_read(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.down = {"patch_spec"}
    await world.signal("resize", Resize(replicas=2))
    await world.pass_time(60)
    world.documents.edit(max_restarts=5)
    await world.until(lambda: world.documents.status.observed_generation == 2, within=120)
    before = len(world.of("load_job"))
    await world.pass_time(3600)
    assert len(world.of("load_job")) - before <= 3600 / 10
    world.down = set()
    await world.running(2)


def _reason(status: SpotInstanceJobStatus, kind: str) -> str | None:
    return next((condition.reason for condition in status.conditions if condition.type == kind), None)
