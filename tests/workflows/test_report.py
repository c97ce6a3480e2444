"""``report.json`` stays in the bucket when the job's object goes."""

from datetime import UTC, datetime, timedelta
from typing import Any

from api.report import IncarnationRecord, VmRecord
from api.spot_instance_job import CheckpointStorage
from tests.workflows.world import World
from workflows.job.state.ledger import KEPT, Ledger

STORAGE = {"type": "gcs", "bucket": "b", "pathPrefix": "team"}
THEN = datetime(2026, 1, 1, tzinfo=UTC)


async def submit(world: World, **spec: Any) -> None:
    await world.submit(replicas=1, checkpoint={"checkpointStorage": STORAGE}, **spec)
    await world.running(1)


async def test_it_tells_of_machines_incarnations_and_costs(world: World) -> None:
    await submit(world)
    await world.pass_time(1800)
    first = world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    second = world.node_of(0)
    await world.pass_time(1800)
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    assert await world.ended() == "Completed"
    (report,) = world.bucket.reports
    assert (report.ended, report.name, report.uid) == ("Completed", "llm", world.documents.uid)
    assert {vm.name for vm in report.vms} == {first, second}
    assert all(vm.created_at and vm.gone_at and vm.created_at < vm.gone_at for vm in report.vms)
    assert all(vm.machine_type == "n1-standard-4" and vm.provisioning == "Spot" for vm in report.vms)
    assert [(each.incarnation, each.ended_at is not None) for each in report.incarnations] == [(0, True), (1, True)]
    assert report.incarnations[1].restored_from
    assert (report.replicas[0].preemptions, report.replicas[0].log) == (1, "gs://b/logs/r0")
    assert report.vm_hours > 1
    told = {condition.type: condition.status for condition in report.conditions}
    assert told["Completed"] == "True"
    assert world.documents.condition("ReportWritten").message == "gs://b/report.json"


async def test_a_bucket_that_is_away_holds_the_end_for_a_while_and_is_told(world: World) -> None:
    await submit(world)
    world.bucket.down = True
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    assert await world.ended(within=900) == "Completed"
    condition = world.documents.condition("ReportWritten")
    assert (condition.status, condition.reason) == ("False", "Transient")
    assert len(world.documents.told("ReportNotWritten")) == 1
    assert world.cloud.instances == {}


async def test_a_deleted_job_leaves_one_too(world: World) -> None:
    await submit(world)
    await world.delete()
    assert await world.ended() == "Deleted"
    assert [report.ended for report in world.bucket.reports] == ["Deleted"]


async def test_without_a_bucket_there_is_none(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.cluster.end_pod(world.cluster.job_of(0), 0)
    assert await world.ended() == "Completed"
    assert world.of("write_report") == []


def test_the_ledger_is_bounded_and_its_sums_are_of_all() -> None:
    ledger = Ledger()
    for number in range(KEPT + 50):
        ledger.add_vm(
            VmRecord(
                name=f"vm-{number}", replica=0, price_per_hour=0.5, created_at=THEN, gone_at=THEN + timedelta(hours=2)
            )
        )
        ledger.begin(IncarnationRecord(replica=0, incarnation=number, started_at=THEN))
    assert (len(ledger.vms), ledger.vms_before, ledger.vms[-1].name) == (KEPT, 50, f"vm-{KEPT + 49}")
    assert (ledger.vm_hours, ledger.cost) == (2 * (KEPT + 50), KEPT + 50)
    assert (len(ledger.incarnations), ledger.incarnations_before) == (KEPT, 50)
    assert len(ledger.model_dump_json()) < 150_000


async def test_an_edit_in_the_moment_of_a_deletion_is_not_worked_with(world: World) -> None:
    """Nobody checks the spec of a job that is being deleted, so its report goes where it did before the edit."""
    await world.submit(replicas=1, checkpoint={"checkpointStorage": {"type": "gcs", "bucket": "ours"}})
    await world.running(1)
    spec = world.documents.spec
    config = spec.checkpoint_config.model_copy(
        update={"checkpoint_storage": CheckpointStorage(type="gcs", bucket="theirs")}
    )
    world.documents.spec = spec.model_copy(update={"checkpoint_config": config, "gcp_credentials_secret_ref": None})
    world.documents.deleting = True
    world.documents.edit()  # the bridge reports the edit, and the object is being deleted when it is read
    await world.ended()
    assert [call.request.storage.bucket for call in world.of("write_report")] == ["ours"]
