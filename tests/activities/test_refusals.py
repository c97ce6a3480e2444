"""What a refusal of the API server means to a workflow, with a worker as the product starts it."""

import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.kubernetes.refusals import to_application_error
from activities.signatures import CREATE_REPLICA, CreateReplica
from api import errors, names
from clients.installation import connected
from clients.kube import KubeError, connect
from sandbox.temporal_server import TemporalServer
from tests.activities.world import World, training
from worker.registration import activities, build_workers
from worker.settings import from_environment
from worker.urgency import UrgentFirst


@workflow.defn
class Create:
    """Lets a replica be created, and reports how that failed."""

    @workflow.run
    async def run(self, request: CreateReplica) -> tuple[str | None, bool]:
        try:
            await workflow.execute_activity(
                CREATE_REPLICA.name,
                request,
                task_queue=names.TASK_QUEUE,
                schedule_to_close_timeout=timedelta(seconds=20),
                retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_attempts=3),
            )
        except ActivityError as error:
            if isinstance(error.cause, ApplicationError):
                return error.cause.type, error.cause.non_retryable
        return None, False


@pytest.fixture
async def client(
    temporal: TemporalServer, control_plane: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Client]:
    """Make a client of a Temporal service with the product's worker, and with one that runs the test's workflow."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    settings = from_environment({"TEMPORAL_ADDRESS": temporal.address})
    async with (
        connected(settings.connections) as here,
        build_workers(
            here.temporal, here.kube, settings, activities(here.temporal, here.kube, settings), UrgentFirst()
        )[0],
    ):
        client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
        async with Worker(client, task_queue="asking", workflows=[Create], workflow_runner=UnsandboxedWorkflowRunner()):
            yield client


async def test_a_template_that_the_api_refuses_is_invalid_at_once(client: Client, world: World) -> None:
    request = world.create_replica(job_template=training(image=None))
    told = await client.execute_workflow(Create.run, request, id=secrets.token_hex(4), task_queue="asking")
    assert told == (errors.INVALID, True)


@pytest.mark.parametrize(
    ("granted", "told"), [(True, (errors.PERMISSION, True)), (False, ("KubernetesForbidden", False))]
)
async def test_a_right_is_missing_only_where_the_server_knows_its_roles(
    granted: bool, told: tuple[str, bool], temporal: TemporalServer, control_plane: Any, world: World, tmp_path: Path
) -> None:
    """An API server that has just started forbids everything, like one that lacks the role for this account."""
    namespace, kubectl = world.job.namespace, control_plane.kubectl
    await kubectl("create", "serviceaccount", "worker", "-n", namespace)
    if granted:
        role = ("--verb=get", "--resource=namespaces", "--resource-name=kube-system")
        await kubectl("create", "clusterrole", namespace, *role)
        await kubectl(
            "create",
            "clusterrolebinding",
            namespace,
            f"--clusterrole={namespace}",
            f"--serviceaccount={namespace}:worker",
        )
    settings = from_environment({"TEMPORAL_ADDRESS": temporal.address})
    client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
    config = await control_plane.account("worker", namespace, tmp_path / "kubeconfig")
    async with (
        await connect(str(config)) as kube,
        build_workers(client, kube, settings, activities(client, kube, settings), UrgentFirst())[0],
        Worker(client, task_queue="asking", workflows=[Create], workflow_runner=UnsandboxedWorkflowRunner()),
    ):
        request = world.create_replica()
        assert told == await client.execute_workflow(Create.run, request, id=secrets.token_hex(4), task_queue="asking")


@pytest.mark.parametrize(
    ("status", "reason", "kind", "final"),
    [
        (403, "Forbidden", errors.PERMISSION, True),
        (422, "Invalid", errors.INVALID, True),
        (409, "Conflict", "KubernetesConflict", False),
        (503, "", "Kubernetes", False),
    ],
)
def test_only_what_stays_refused_is_final(status: int, reason: str, kind: str, final: bool) -> None:
    error = to_application_error(KubeError(status, {"reason": reason, "message": "no"}))
    assert (error.type, error.non_retryable, error.message) == (kind, final, "Kubernetes API: no")
