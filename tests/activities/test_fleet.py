"""VMs and the workflows that own them: a real Temporal service, a real API server, the emulated GCE."""

import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter

from activities import fleet as fleet_module
from activities.compute.gcp import GcpCloud
from activities.compute.instance import instance_body
from activities.fleet import FleetActivities, sources_by_project
from activities.signatures import CheckOwner, Orphans, SweepRequest
from api import names
from api.market import Candidate
from api.messages import JobStart, VmStart
from api.spot_instance_vm import SpotInstanceVMSpec
from sandbox.gce import GceEmulator
from sandbox.settings import Settings
from sandbox.temporal_server import TemporalServer
from tests.activities.boxes import Boxes
from tests.activities.world import VM, World, run

ZONE = "us-central1-a"
VM_GCP = {"zone": ZONE, "machineType": "n1-standard-4"}


class Fleet:
    """One cluster's VMs, and the activities on their workflows. No worker runs: workflows stay where they are."""

    def __init__(self, temporal: Client, gce: GceEmulator, cloud: GcpCloud, world: World) -> None:
        self.temporal = temporal
        self.gce = gce
        self.cloud = cloud
        self.cluster_id = secrets.token_hex(8)
        self.project = f"demo-{secrets.token_hex(4)}"  # the sweep looks at all that is in the API server
        job_id = names.job_id(self.cluster_id, world.job.uid)
        self.job = world.job.model_copy(update={"job_id": job_id})
        self.key = names.vm_key(job_id, 0, 1)
        self.kube = world.kube
        self.world = world
        self.activities = FleetActivities(temporal, world.kube, cloud)

    @property
    def start(self) -> VmStart:
        return VmStart(
            key=self.key,
            cluster_id=self.cluster_id,
            job_id=self.job.job_id,
            replica=0,
            namespace=self.job.namespace,
            job_name=self.job.name,
            job_uid=self.job.uid,
            vm_name="spot",
            spec=SpotInstanceVMSpec.model_validate(VM | {"gcp": VM_GCP | {"project": self.project}}),
        )

    async def buy(self) -> str:
        """An instance that bears this cluster's labels; its name."""
        name = names.vm_name(self.key, 1)
        body = instance_body(
            self.start.spec,
            name=name,
            candidate=Candidate(zone=ZONE, machine_type="n1-standard-4", gpu=self.start.spec.gpu),
            labels={names.GCE_LABEL_CLUSTER: names.cluster_label(self.cluster_id)},
            ssh_public_key="ssh-ed25519 AAAA",
        )
        compute = await self.cloud.open(None, "default")
        await compute.insert(self.project, ZONE, body, names.request_id(name, ZONE))
        return name

    async def open_job(self) -> None:
        """Start the job's workflow."""
        job = self.job
        start = JobStart(
            namespace=job.namespace, name=job.name, uid=job.uid, cluster_id=self.cluster_id, job_id=job.job_id
        )
        await self.temporal.start_workflow(
            names.JOB_WORKFLOW, start, id=names.job_workflow_id(job.namespace, job.name), task_queue=names.TASK_QUEUE
        )

    async def finish_job(self) -> None:
        """Let the CR say that it is over."""
        condition = {"type": "Completed", "status": "True", "reason": "Completed", "message": ""}
        condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
        await self.kube.patch(f"{self.world.job_path}/status", {"status": {"conditions": [condition]}})

    async def sweep(self) -> Orphans:
        """Sweep; what cannot be read of other tests' projects is left out."""
        found = await run(self.activities.find_orphans, SweepRequest(cluster_id=self.cluster_id))
        ours = [reason for reason in found.unreadable if reason.startswith(self.project)]
        return found.model_copy(update={"unreadable": ours})

    async def vm_run(self) -> tuple[str, WorkflowExecutionStatus | None]:
        """(run id, status) of the VM's workflow."""
        found = await self.temporal.get_workflow_handle(names.vm_workflow_id(self.key)).describe()
        return found.run_id, found.status

    async def end_vm(self) -> None:
        await self.temporal.get_workflow_handle(names.vm_workflow_id(self.key)).terminate()


@pytest.fixture
async def fleet(
    temporal: TemporalServer, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Fleet]:
    monkeypatch.setattr(fleet_module, "YOUNG", timedelta(0))
    client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
    gce = GceEmulator(Settings(state_dir=tmp_path, speed=50, octet=191), Boxes())
    cloud = GcpCloud(world.kube, await gce.start())
    made = Fleet(client, gce, cloud, world)
    await world.kube.patch(world.vm_path, {"spec": {"gcp": {"project": made.project}}})
    yield made
    cloud.close()
    await gce.stop()


async def test_ensures_a_vm_by_starting_its_workflow(fleet: Fleet) -> None:
    assert (await run(fleet.activities.ensure_vm, fleet.start)).open
    assert (await fleet.vm_run())[1] == WorkflowExecutionStatus.RUNNING


async def test_ensuring_again_asks_the_same_run(fleet: Fleet) -> None:
    await run(fleet.activities.ensure_vm, fleet.start)
    first, _ = await fleet.vm_run()
    assert (await run(fleet.activities.ensure_vm, fleet.start)).open
    assert (await fleet.vm_run())[0] == first
    history = await fleet.temporal.get_workflow_handle(names.vm_workflow_id(fleet.key)).fetch_history()
    signals = [e for e in history.events if e.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED]
    assert [e.workflow_execution_signaled_event_attributes.signal_name for e in signals] == ["ensure", "ensure"]


async def test_a_life_that_is_over_is_not_begun_again(fleet: Fleet) -> None:
    await run(fleet.activities.ensure_vm, fleet.start)
    await fleet.end_vm()
    assert not (await run(fleet.activities.ensure_vm, fleet.start)).open
    assert (await fleet.vm_run())[1] == WorkflowExecutionStatus.TERMINATED


async def test_an_orphans_teardown_begins_after_a_life_that_is_over(fleet: Fleet) -> None:
    await run(fleet.activities.ensure_vm, fleet.start)
    await fleet.end_vm()
    stock = fleet.start.model_copy(update={"replica": -1})
    assert (await run(fleet.activities.adopt_orphan, stock)).open
    assert (await fleet.vm_run())[1] == WorkflowExecutionStatus.RUNNING
    history = await fleet.temporal.get_workflow_handle(names.vm_workflow_id(fleet.key)).fetch_history()
    payloads = history.events[0].workflow_execution_started_event_attributes.input.payloads
    (start,) = await fleet.temporal.data_converter.decode(payloads, [VmStart])
    assert (start.teardown, start.replica) == (True, 0)


async def test_a_live_owner_is_not_disturbed(fleet: Fleet) -> None:
    await run(fleet.activities.ensure_vm, fleet.start)
    first = await fleet.vm_run()
    await run(fleet.activities.adopt_orphan, fleet.start)
    assert await fleet.vm_run() == first


# --- owners


async def owner_alive(fleet: Fleet, **changes: Any) -> bool:
    return (await run(fleet.activities.check_owner, CheckOwner(job=fleet.job.model_copy(update=changes)))).alive


async def test_a_job_with_an_open_workflow_lives(fleet: Fleet) -> None:
    await fleet.open_job()
    assert await owner_alive(fleet)


async def test_a_job_whose_workflow_may_be_started_again_lives(fleet: Fleet) -> None:
    assert await owner_alive(fleet)


async def test_a_job_that_ended_does_not_live(fleet: Fleet) -> None:
    await fleet.finish_job()
    assert not await owner_alive(fleet)


async def test_a_job_that_ends_lives_until_its_workflow_is_closed(fleet: Fleet) -> None:
    await fleet.open_job()
    await fleet.finish_job()
    assert await owner_alive(fleet)


async def test_a_job_that_is_gone_does_not_live(fleet: Fleet) -> None:
    assert not await owner_alive(fleet, name="gone")


async def test_a_job_of_the_same_name_is_another_job(fleet: Fleet) -> None:
    await fleet.open_job()
    assert not await owner_alive(fleet, uid="another")


async def test_a_deleted_job_lives_while_its_workflow_tears_down(fleet: Fleet) -> None:
    await fleet.open_job()
    await fleet.kube.delete(fleet.world.job_path)
    assert await owner_alive(fleet)


# --- orphans


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


async def test_a_vm_of_a_living_job_that_this_temporal_does_not_know_is_left_alone(fleet: Fleet) -> None:
    await fleet.buy()
    found = await fleet.sweep()
    assert (found.seen, found.orphans) == (1, [])


async def test_a_young_vm_is_left_alone(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "YOUNG", timedelta(minutes=10))
    await fleet.buy()
    await fleet.kube.delete(fleet.world.job_path)
    found = await fleet.sweep()
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
