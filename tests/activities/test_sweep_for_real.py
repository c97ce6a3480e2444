"""Nothing leaks and nothing alive is swept: the whole worker, with a Temporal namespace of its own, on real parts.

People do what they should not: they terminate workflows from the CLI, remove finalizers by force, and delete the
objects that name the project. Then one sweep runs, and the cloud's and the cluster's own lists are read.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from activities.compute.gcp import GcpCloud
from activities.compute.instance import placement_owner
from api import names
from api.sweep import SweepReport
from sandbox.gce import GceEmulator
from sandbox.settings import Settings as SandboxSettings
from sandbox.temporal_server import TemporalServer
from tests.activities.boxes import Boxes
from tests.activities.fleet_setting import Fleet
from tests.activities.world import World, eventually
from worker.registration import activities, build_workers
from worker.settings import from_environment
from worker.urgency import UrgentFirst


async def own_namespace(temporal: TemporalServer) -> Client:
    """Make a client of a new Temporal namespace, once the service serves it."""
    name = f"sweep-{secrets.token_hex(4)}"
    client = await Client.connect(temporal.address, namespace=name, data_converter=pydantic_data_converter)
    request = RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=Duration(seconds=86400))
    await client.workflow_service.register_namespace(request)

    async def served() -> bool:
        try:
            await client.count_workflows()
        except RPCError:
            return False
        return True

    await eventually("the namespace is served", served, 120)
    return client


@pytest.fixture
async def fleet(temporal: TemporalServer, world: World, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Make a fleet whose workflows the worker itself runs."""
    client = await own_namespace(temporal)
    gce = GceEmulator(SandboxSettings(state_dir=tmp_path, speed=50, octet=191), Boxes())
    endpoint = await gce.start()
    cloud = GcpCloud(world.kube, endpoint)
    made = Fleet(client, gce, cloud, world)
    await world.kube.patch(world.vm_path, {"spec": {"gcp": {"project": made.project}}})
    settings = from_environment({"OUTLAST_GCE_ENDPOINT": endpoint, "OUTLAST_TIMING_RETRY": "1"})
    workers = build_workers(client, world.kube, settings, activities(client, world.kube, settings), UrgentFirst())
    async with workers[0], workers[1]:
        yield made
    await world.kube.delete(f"/api/v1/nodes/{names.vm_name(made.key, 1)}")
    cloud.close()
    await gce.stop()


async def sweep(fleet: Fleet) -> SweepReport:
    """Sweep, without what other tests have left on this API server, which would give an alarm."""
    report: SweepReport = await fleet.temporal.execute_workflow(
        names.SWEEP_WORKFLOW, fleet.request(anyway=True), id="sweep", task_queue=names.TASK_QUEUE,
        result_type=SweepReport, run_timeout=timedelta(minutes=2),
    )  # fmt: skip
    return report


def vms(fleet: Fleet) -> list[str]:
    return sorted(vm["name"] for vm in fleet.gce.instances())


async def machine_with_node(fleet: Fleet) -> str:
    name = await fleet.buy()
    await fleet.node()
    return name


async def test_a_machine_that_nobody_looks_after_goes_with_its_node(fleet: Fleet) -> None:
    name = await machine_with_node(fleet)
    await fleet.forget_objects()  # finalizers by force, and with them every object that names the project
    report = await sweep(fleet)
    assert any(name in orphan for orphan in report.kinds[0].orphans)

    async def gone() -> bool:
        return name not in vms(fleet) and await fleet.kube.find(f"/api/v1/nodes/{name}") is None

    await eventually("VM and Node are gone", gone, 120)
    handle = fleet.temporal.get_workflow_handle(names.vm_workflow_id(fleet.key))
    assert await asyncio.wait_for(handle.result(), 120) == "Sweep"
    assert name not in str(await sweep(fleet))


async def test_another_clusters_machine_of_the_same_name_stays(fleet: Fleet) -> None:
    """Whatever leads a teardown there, the labels are read once more before the deletion."""
    ours, fleet.cluster_id = fleet.cluster_id, "another-cluster"
    name = await fleet.buy()
    fleet.cluster_id = ours
    await fleet.node()
    await fleet.forget_objects()
    report = await sweep(fleet)
    assert any(name in orphan for orphan in report.kinds[0].orphans)  # the Node, which is this cluster's
    handle = fleet.temporal.get_workflow_handle(names.vm_workflow_id(fleet.key))

    async def refused() -> bool:
        state = await handle.query("status")
        return "without our labels" in str(state)

    await eventually("the teardown says whose it is", refused, 120)
    assert vms(fleet) == [name]
    assert (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
    await handle.terminate()


async def test_a_living_jobs_machines_stay_where_temporal_is_empty(fleet: Fleet) -> None:
    name = await machine_with_node(fleet)
    report = await sweep(fleet)
    assert not any(name in orphan for orphan in report.kinds[0].orphans)
    assert vms(fleet) == [name]
    assert await fleet.kube.find(f"/api/v1/nodes/{name}") is not None


async def test_a_placement_policy_that_nobody_uses_goes(fleet: Fleet) -> None:
    """Its machine's workflow was terminated after the last machine's end and before the policy's."""
    policy = await fleet.place()
    await fleet.kube.delete(fleet.world.job_path)
    report = await sweep(fleet)
    assert [policy] in [kind.orphans for kind in report.kinds]

    async def gone() -> bool:
        compute = await fleet.cloud.open(None, "default")
        return not await compute.placements(fleet.project, placement_owner(names.cluster_label(fleet.cluster_id)))

    await eventually("the policy is gone", gone, 120)
