"""Workers of several versions on Temporal's real dev server, and the versions of open workflows."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkerDeploymentVersion

from tests.bridge.recorder import eventually
from tests.workflows.estate import Estate
from tests.workflows.temporal_cli import Cli
from tests.workflows.world import World
from worker.registration import deployment

DEPLOYMENT = "outlast"


@contextlib.asynccontextmanager
async def worker(real: World | Estate, build: str, **options: Any) -> AsyncIterator[None]:
    """Run a worker of one version of the deployment, configured as the product's own, with a client of its own."""
    config = real.env.client.config()
    address = config["service_client"].config.target_host
    client = await Client.connect(address, namespace=config["namespace"], data_converter=config["data_converter"])
    version = deployment(WorkerDeploymentVersion(DEPLOYMENT, build))
    async with real.worker(client=client, deployment_config=version, **options):
        yield


async def make_current(cli: Cli, build: str) -> None:
    """Make a version current as docs/upgrading.md says.

    The service refuses that until it has heard the first poll of each of its worker's task queues.
    """
    where = ("--deployment-name", DEPLOYMENT, "--build-id", build)

    async def accepted() -> bool:
        return await cli.exit_code("worker", "deployment", "set-current-version", *where, "--yes") == 0

    await eventually(accepted, f"the service makes version {build} current")


async def version_of(handle: WorkflowHandle[Any, Any]) -> str:
    """Find the build that carried out the latest task of the latest run; empty if none was versioned."""
    latest = handle._client.get_workflow_handle(handle.id)
    info = (await latest.describe()).raw_description.workflow_execution_info
    return str(info.versioning_info.deployment_version.build_id)


async def is_on(handle: WorkflowHandle[Any, Any], build: str) -> None:
    """Wait until a workflow has moved to a version."""

    async def moved() -> bool:
        return await version_of(handle) == build

    await eventually(moved, f"{handle.id} moves to version {build}", deadline=60)
