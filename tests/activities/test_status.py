"""What people read: status and Events on a real API server."""

from datetime import UTC, datetime
from typing import Any

import pytest

from activities.kubernetes.status import StatusActivities
from activities.signatures import JobEvent, Report, WriteVmEntry
from api.common import Condition
from api.spot_instance_job import JobStatusEntry, SpotInstanceJobStatus
from api.spot_instance_vm import ProvisionedInstance
from clients.kube import Kube, KubeError
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


def event(reason: str, message: str, **fields: Any) -> JobEvent:
    return JobEvent(reason=reason, message=message, at=AT, **fields)


async def test_status_is_written_whole_and_what_is_left_out_goes(world: World, writer: StatusActivities) -> None:
    await run(writer.report, Report(job=world.job, status=status("First", "a", "b")))
    await run(writer.report, Report(job=world.job, status=status("Second", "b")))
    found = (await world.kube.get(world.job_path))["status"]
    assert [condition["reason"] for condition in found["conditions"]] == ["Second"]
    assert [entry["name"] for entry in found["jobStatuses"]] == ["b"]
    assert found["activeReplicas"] == 1


async def test_state_is_one_column_of_kubectl_get(world: World, writer: StatusActivities, control_plane: Any) -> None:
    async def shown(told: dict[str, Any], *wide: str) -> str:
        condition = Condition(last_transition_time=AT, **told)
        seeks = JobStatusEntry(name="a", phase="Provisioning")
        found = SpotInstanceJobStatus(conditions=[condition], job_statuses=[seeks], replicas=1, active_replicas=0)
        await run(writer.report, Report(job=world.job, status=found))
        return str(await control_plane.kubectl("get", "sij", world.job.name, "-n", world.job.namespace, *wide))

    why = "no capacity in us-central1-a"
    lack = {"type": "CapacityAvailable", "status": "False", "reason": "NoCapacity", "message": why}
    assert f"Buying a VM: {why}" in await shown(lack)
    late = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "ran for 3600 s"}
    assert "Failed: DeadlineExceeded" in await shown(late)
    assert "ran for 3600 s" not in await shown(late)
    assert "ran for 3600 s" in await shown(late, "-o", "wide")


async def test_get_shows_all_replicas_together(world: World, writer: StatusActivities, control_plane: Any) -> None:
    entries = [
        JobStatusEntry(name="a", progress=40, preemptions=2),
        JobStatusEntry(name="b", progress=70, preemptions=1),
        JobStatusEntry(name="c"),
    ]
    await run(writer.report, Report(job=world.job, status=SpotInstanceJobStatus(job_statuses=entries)))
    columns = (await control_plane.kubectl("get", "sij", world.job.name, "-n", world.job.namespace)).splitlines()
    shown = columns[1][columns[0].index("PROGRESS") :].split()
    assert shown[:2] == ["70", "3"]  # there is no checkpoint


@pytest.mark.parametrize("other", [{"name": "gone"}, {"uid": "00000000-0000-0000-0000-000000000000"}])
async def test_status_of_another_job_is_not_touched(
    world: World, writer: StatusActivities, other: dict[str, str]
) -> None:
    job = world.job.model_copy(update=other)
    await run(writer.report, Report(job=job, status=status("Wrong")))
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
    report = Report(job=world.job, events=[event("Preempted", "é" * 2000, type="Warning")])
    await run(writer.report, report)
    await run(writer.report, report)
    events = await world.kube.list(world.path("events.k8s.io/v1", "events"))
    [made] = [each for each in events if each["regarding"]["name"] == "resnet"]
    assert (made["reason"], made["type"], made["regarding"]["uid"]) == ("Preempted", "Warning", world.job.uid)
    assert made["note"] == "é" * 512


async def test_event_is_seen_by_kubectl_describe(world: World, writer: StatusActivities, control_plane: object) -> None:
    await run(writer.report, Report(job=world.job, events=[event("Restored", "from step 7")]))
    described = await control_plane.kubectl("describe", "sij", "resnet", "-n", world.job.namespace)  # type: ignore[attr-defined]
    assert "from step 7" in described


async def test_event_in_a_namespace_that_is_gone_is_success(world: World, writer: StatusActivities) -> None:
    job = world.job.model_copy(update={"namespace": "never-there"})
    await run(writer.report, Report(job=job, events=[event("R", "m")]))


async def test_an_event_that_is_refused_holds_back_neither_the_others_nor_the_status(
    world: World, writer: StatusActivities
) -> None:
    events = [event("no reason may be as long as this one " * 10, "refused"), event("Restored", "from step 7")]
    with pytest.raises(KubeError, match="reason"):
        await run(writer.report, Report(job=world.job, events=events, status=status("First")))
    listed = await world.kube.list(world.path("events.k8s.io/v1", "events"))
    assert [each["note"] for each in listed] == ["from step 7"]
    assert (await world.kube.get(world.job_path))["status"]["conditions"][0]["reason"] == "First"
