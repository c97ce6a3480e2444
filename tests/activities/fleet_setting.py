"""One cluster's VMs with a real Temporal service, a real API server and the emulated GCE."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.compute.gcp import GcpCloud
from activities.compute.instance import instance_body, placement_owner
from activities.orphans.machines import OrphanedMachineActivities
from activities.signatures import Orphans, SweepRequest
from activities.temporal.fleet import FleetActivities
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
    """One cluster's VMs, and the activities on their workflows. Without a worker, workflows stay where they are."""

    def __init__(self, temporal: Client, gce: GceEmulator, cloud: GcpCloud, world: World) -> None:
        self.temporal = temporal
        self.gce = gce
        self.cloud = cloud
        self.cluster_id = secrets.token_hex(8)
        self.project = f"demo-{secrets.token_hex(4)}"  # the sweep looks at everything that is in the API server
        job_id = names.job_id(self.cluster_id, world.job.uid)
        self.job = world.job.model_copy(update={"job_id": job_id})
        self.key = names.vm_key(job_id, 0, 1)
        self.kube = world.kube
        self.world = world
        self.activities = FleetActivities(temporal, world.kube)
        self.machines = OrphanedMachineActivities(temporal, world.kube, cloud)

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
        """Make an instance with this cluster's labels, and return its name."""
        name = names.vm_name(self.key, 1)
        body = instance_body(
            self.start.spec,
            name=name,
            candidate=Candidate(zone=ZONE, machine_type="n1-standard-4", gpu=self.start.spec.gpu),
            labels={
                names.GCE_LABEL_JOB: self.job.job_id,
                names.GCE_LABEL_REPLICA: "0",
                names.GCE_LABEL_CLUSTER: names.cluster_label(self.cluster_id),
            },
            ssh_public_key="ssh-ed25519 AAAA",
        )
        compute = await self.cloud.open(None, "default")
        await compute.insert(self.project, ZONE, body, names.request_id(name, ZONE))
        return name

    async def place(self) -> str:
        """Make the placement policy of a gang of this cluster, and return its name."""
        name, compute = names.placement_name(self.job.job_id, 0), await self.cloud.open(None, "default")
        owner = placement_owner(names.cluster_label(self.cluster_id))
        await compute.ensure_placement(self.project, ZONE, name, owner)
        return name

    async def open_job(self) -> None:
        """Start the job's workflow, as the bridge does."""
        job = self.job
        start = JobStart(
            namespace=job.namespace, name=job.name, uid=job.uid, cluster_id=self.cluster_id, job_id=job.job_id
        )
        await self.temporal.start_workflow(
            names.JOB_WORKFLOW,
            start,
            id=names.job_workflow_id(job.namespace, job.name),
            task_queue=names.TASK_QUEUE,
            memo={"uid": job.uid, "cluster": self.cluster_id},
        )

    async def finish_job(self) -> None:
        """Set a condition of the job that says that it has ended."""
        condition = {"type": "Completed", "status": "True", "reason": "Completed", "message": ""}
        condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
        await self.kube.patch(f"{self.world.job_path}/status", {"status": {"conditions": [condition]}})

    def request(self, grace: float = -60, **more: Any) -> SweepRequest:
        """Make a sweep's request for which nothing is too young; an API server's clock knows whole seconds only."""
        return SweepRequest(cluster_id=self.cluster_id, grace=grace, **more)

    async def sweep(self, grace: float = -60) -> Orphans:
        """Look for machines, without those of other tests."""
        found = await run(self.machines.find_orphans, self.request(grace))
        ours = [reason for reason in found.unreadable if reason.startswith(self.project)]
        orphans = [orphan for orphan in found.orphans if orphan.start.job_id == self.job.job_id]
        return found.model_copy(update={"unreadable": ours, "orphans": orphans})

    async def vm_run(self) -> tuple[str, WorkflowExecutionStatus | None]:
        """Return (run id, status) of the VM's workflow."""
        found = await self.temporal.get_workflow_handle(names.vm_workflow_id(self.key)).describe()
        return found.run_id, found.status

    async def node(self, **spec: Any) -> str:
        """Register the Node of the first attempt, as kubeadm does, and return its name."""
        name = names.vm_name(self.key, 1)
        provider = f"gce://{self.project}/{ZONE}/{name}"
        body = {"metadata": {"name": name}, "spec": {"providerID": provider, **spec}}
        await self.kube.create("/api/v1/nodes", body)
        return name

    async def end_job(self) -> None:
        """Terminate the job's workflow, as `temporal workflow terminate` does."""
        workflow_id = names.job_workflow_id(self.job.namespace, self.job.name)
        await self.temporal.get_workflow_handle(workflow_id).terminate()

    async def forget_objects(self) -> None:
        """Remove the job and the VM's spec at once, as somebody does who removes their finalizers by force."""
        for where in (self.world.job_path, self.world.vm_path):
            await self.kube.delete(where)

    async def end_vm(self) -> None:
        await self.temporal.get_workflow_handle(names.vm_workflow_id(self.key)).terminate()


@pytest.fixture
async def fleet(temporal: TemporalServer, world: World, tmp_path: Path) -> AsyncIterator[Fleet]:
    client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
    gce = GceEmulator(Settings(state_dir=tmp_path, speed=50, octet=191), Boxes())
    cloud = GcpCloud(world.kube, await gce.start())
    made = Fleet(client, gce, cloud, world)
    await world.kube.patch(world.vm_path, {"spec": {"gcp": {"project": made.project}}})
    yield made
    await world.kube.delete(f"/api/v1/nodes/{names.vm_name(made.key, 1)}")
    cloud.close()
    await gce.stop()
