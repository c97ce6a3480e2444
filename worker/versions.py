"""A worker's version in its deployment, as Temporal knows it: who polls, what is current, whether to change that."""

from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeWorkerDeploymentRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode

from api.names import CREATES_QUEUE, LONG_QUEUE, TASK_QUEUE
from clients.temporal import RPC_TIMEOUT

QUEUES = (
    (TASK_QUEUE, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, "workflows"),
    *(
        (queue, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY, "activities")
        for queue in (TASK_QUEUE, LONG_QUEUE, CREATES_QUEUE)
    ),
)
"""What a worker polls, and the word for it in messages."""


@dataclass(frozen=True)
class Standing:
    """The state of one version in its deployment."""

    version: WorkerDeploymentVersion
    current: str  # the build that new work goes to; empty for workers without a version
    known: bool  # a worker with it has polled
    tried: bool  # it was current before, or got a share of the work
    token: bytes = b""  # stands for this state of the deployment, so that no change overtakes it

    @property
    def is_current(self) -> bool:
        """True if new work goes to this version."""
        return self.current == self.version.build_id

    def objection(self) -> str:
        """Say why it should not be made current unasked; empty if nothing speaks against it.

        A version becomes current by itself once. If it was replaced since, by a newer release or by a person who went
        back, then a Job that runs again (`kubectl apply`, GitOps) must not reverse that.
        """
        if self.tried:
            return "it was current before, and has been replaced"
        if is_older(self.version.build_id, self.current):
            return f"it is older than {self.current}"
        return ""


def is_older(build: str, than: str) -> bool:
    """True if both are plain numbers (``0.9.1``, ``0.10``) and the first is less; other names have no order."""
    try:
        return [int(part) for part in build.split(".")] < [int(part) for part in than.split(".")]
    except ValueError:
        return False


async def standing(client: Client, version: WorkerDeploymentVersion) -> Standing:
    """Ask Temporal for the state of this version.

    Raises:
        RPCError: Temporal did not say.
    """
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=version.deployment_name)
    try:
        answer = await client.workflow_service.describe_worker_deployment(request, timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:  # none of its versions has ever polled
            return Standing(version, current="", known=False, tried=False)
        raise
    info = answer.worker_deployment_info
    ours = [each for each in info.version_summaries if each.deployment_version.build_id == version.build_id]
    return Standing(
        version,
        current=info.routing_config.current_deployment_version.build_id,
        known=bool(ours),
        tried=any(each.first_activation_time != Timestamp() for each in ours),
        token=answer.conflict_token,
    )


async def unpolled(client: Client, version: WorkerDeploymentVersion) -> list[str]:
    """Name the task queues that no worker of this version polls.

    Raises:
        RPCError: Temporal did not say.
    """
    return [f"{kind} of {queue}" for queue, type_, kind in QUEUES if not await _polls(client, version, queue, type_)]


async def _polls(client: Client, version: WorkerDeploymentVersion, queue: str, type_: TaskQueueType.ValueType) -> bool:
    request = DescribeTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=type_
    )
    answer = await client.workflow_service.describe_task_queue(request, timeout=RPC_TIMEOUT)
    pollers = (each.deployment_options for each in answer.pollers)
    return any((each.deployment_name, each.build_id) == (version.deployment_name, version.build_id) for each in pollers)


async def make_current(client: Client, found: Standing) -> None:
    """Send new work to this version, unless the deployment has changed since it was read.

    Raises:
        RPCError: Temporal refuses.
    """
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace,
        deployment_name=found.version.deployment_name,
        build_id=found.version.build_id,
        conflict_token=found.token,
        identity=client.identity,
    )
    await client.workflow_service.set_worker_deployment_current_version(request, timeout=RPC_TIMEOUT)


def how_to_make_current(version: WorkerDeploymentVersion) -> str:
    """Write the command by which a person makes it current."""
    return (
        f"temporal worker deployment set-current-version --deployment-name {version.deployment_name} "
        f"--build-id {version.build_id}"
    )
