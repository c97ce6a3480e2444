"""What people read: status and Events on a real API server."""

from datetime import UTC, datetime

import pytest

from activities.signatures import Emit, WriteStatus, WriteVmEntry
from activities.status import StatusActivities
from api.common import Condition
from api.spot_instance_job import JobStatusEntry, SpotInstanceJobStatus
from api.spot_instance_vm import ProvisionedInstance
from clients.kube import Kube
from tests.activities.world import World, run

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


@pytest.fixture
def writer(kube: Kube) -> StatusActivities:
    return StatusActivities(kube)


def status(reason: str, *replicas: str) -> SpotInstanceJobStatus:
    condition = Condition(type="Ready", status="True", reason=reason, last_transition_time=AT, observed_generation=1)
    return SpotInstanceJobStatus(
        conditions=[condition],
        active_replicas=len(replicas),
        job_statuses=[JobStatusEntry(name=name, phase="Running", progress=1.5) for name in replicas],
    )


async def test_status_is_written_whole_and_what_is_left_out_goes(world: World, writer: StatusActivities) -> None:
    await run(writer.write_status, WriteStatus(job=world.job, status=status("First", "a", "b")))
    await run(writer.write_status, WriteStatus(job=world.job, status=status("Second", "b")))
    found = (await world.kube.get(world.job_path))["status"]
    assert [condition["reason"] for condition in found["conditions"]] == ["Second"]
    assert [entry["name"] for entry in found["jobStatuses"]] == ["b"]
    assert found["activeReplicas"] == 1


@pytest.mark.parametrize("other", [{"name": "gone"}, {"uid": "00000000-0000-0000-0000-000000000000"}])
async def test_status_of_another_job_is_not_touched(
    world: World, writer: StatusActivities, other: dict[str, str]
) -> None:
    job = world.job.model_copy(update=other)
    await run(writer.write_status, WriteStatus(job=job, status=status("Wrong")))
    assert "status" not in await world.kube.get(world.job_path)


async def test_each_vm_owns_its_entry(world: World, writer: StatusActivities) -> None:
    async def write(name: str, state: str | None) -> list[tuple[str, str]]:
        entry = ProvisionedInstance(name=name, state=state, creation_time=AT) if state else None
        request = WriteVmEntry(namespace=world.job.namespace, vm_name="spot", name=name, entry=entry)
        await run(writer.write_vm_entry, request)
        found = (await world.kube.get(world.vm_path)).get("status", {}).get("provisionedInstances", [])
        return sorted((each["name"], each["state"]) for each in found)

    await write("outlast-0a1b2c3d-r0-v1-t1", "STAGING")
    await write("outlast-0a1b2c3d-r1-v1-t1", "RUNNING")
    both = await write("outlast-0a1b2c3d-r0-v1-t1", "RUNNING")
    assert both == [("outlast-0a1b2c3d-r0-v1-t1", "RUNNING"), ("outlast-0a1b2c3d-r1-v1-t1", "RUNNING")]
    assert await write("outlast-0a1b2c3d-r0-v1-t1", None) == [("outlast-0a1b2c3d-r1-v1-t1", "RUNNING")]
    assert await write("outlast-0a1b2c3d-r0-v1-t1", None) == [("outlast-0a1b2c3d-r1-v1-t1", "RUNNING")]
    assert await write("outlast-0a1b2c3d-r1-v1-t1", None) == []


async def test_entry_of_a_vm_spec_that_is_gone_is_success(world: World, writer: StatusActivities) -> None:
    request = WriteVmEntry(namespace=world.job.namespace, vm_name="gone", name="x", entry=ProvisionedInstance(name="x"))
    await run(writer.write_vm_entry, request)
    await run(writer.write_vm_entry, request.model_copy(update={"entry": None}))


async def test_event_is_made_once(world: World, writer: StatusActivities) -> None:
    emit = Emit(job=world.job, type="Warning", reason="Preempted", message="é" * 2000, at=AT)
    await run(writer.emit, emit)
    await run(writer.emit, emit)
    events = await world.kube.list(world.path("events.k8s.io/v1", "events"))
    [event] = [each for each in events if each["regarding"]["name"] == "resnet"]
    assert (event["reason"], event["type"], event["regarding"]["uid"]) == ("Preempted", "Warning", world.job.uid)
    assert event["note"] == "é" * 512


async def test_event_is_seen_by_kubectl_describe(world: World, writer: StatusActivities, control_plane: object) -> None:
    await run(writer.emit, Emit(job=world.job, reason="Restored", message="from step 7", at=AT))
    described = await control_plane.kubectl("describe", "sij", "resnet", "-n", world.job.namespace)  # type: ignore[attr-defined]
    assert "from step 7" in described


async def test_event_in_a_namespace_that_is_gone_is_success(world: World, writer: StatusActivities) -> None:
    job = world.job.model_copy(update={"namespace": "never-there"})
    await run(writer.emit, Emit(job=job, reason="R", message="m", at=AT))
