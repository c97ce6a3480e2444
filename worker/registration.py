"""What a worker runs: all workflows, and all activities with their clients."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import PollerBehaviorAutoscaling, UnsandboxedWorkflowRunner, Worker, WorkerDeploymentConfig

from activities.certificates.activities import CertificateActivities
from activities.checkpoints.activities import CheckpointActivities
from activities.checkpoints.tidying import TidyActivities
from activities.compute.activities import ComputeActivities
from activities.compute.gcp import GcpCloud
from activities.diagnosis.activities import DiagnosisActivities
from activities.documents.activities import SpecActivities
from activities.join.activities import JoinActivities
from activities.join.ssh import SshKeys
from activities.kubernetes.budgets import BudgetActivities
from activities.kubernetes.costs import CostActivities
from activities.kubernetes.nodes import NodeActivities
from activities.kubernetes.refusals import Refusals
from activities.kubernetes.secret import Sharing
from activities.kubernetes.status import StatusActivities
from activities.kubernetes.strangers import StrangerActivities
from activities.log_context import LogContext
from activities.network.gate import Gate
from activities.orphans.alarm import AlarmActivities
from activities.orphans.claims import OrphanedClaimActivities
from activities.orphans.finalizers import OrphanedFinalizerActivities
from activities.orphans.images import OrphanedImageActivities
from activities.orphans.machines import OrphanedMachineActivities
from activities.orphans.objects import OrphanedObjectActivities
from activities.placement.activities import CapacityActivities
from activities.preflight.activities import PreflightActivities
from activities.preflight.pod_admission import PodAdmissionActivities
from activities.registry.activities import ImageActivities
from activities.replicas.activities import ReplicaActivities
from activities.replicas.causes import CauseActivities
from activities.replicas.logs import LogActivities
from activities.replicas.outputs import OutputActivities
from activities.storage.activities import StorageActivities
from activities.storage.bucket import SecretBuckets
from activities.storage.reports import ReportActivities
from activities.temporal.fleet import FleetActivities
from activities.temporal.looks import LookActivities
from activities.temporal.market import MarketActivities
from activities.temporal.preemptions import PreemptionActivities
from activities.temporal.stuck import StuckActivities
from api.names import CREATES_QUEUE, LONG_QUEUE, TASK_QUEUE
from clients.kube import Kube
from clients.search_attributes import Registration
from worker.memory import Memory
from worker.settings import Settings
from worker.urgency import UrgentFirst
from workflows.diagnosis.workflow import Diagnosis
from workflows.job.workflow import SpotInstanceJob
from workflows.market.workflow import SpotMarket
from workflows.sweep.workflow import Sweep
from workflows.vm.workflow import SpotVM

WORKFLOWS = [SpotInstanceJob, SpotVM, SpotMarket, Sweep, Diagnosis]
GRACE = timedelta(seconds=25)  # the pod's terminationGracePeriodSeconds exceeds it
MOST_POLLERS = 20
"""Polls of one queue that are open at once if there is much to do. Each brings one task."""


def activities(
    client: Client,
    kube: Kube,
    settings: Settings,
    attributes: Registration | None = None,
    memory: Memory | None = None,
    apart: Kube | None = None,
) -> list[Callable[..., Any]]:
    """List all activities, bound to their clients.

    What answers a notice reaches the cluster through ``apart``, if it is given, where it waits for no connection that
    logs or slow answers have taken.
    """
    apart = apart or kube
    memory = memory or Memory(apart, daemons=settings.daemons)
    cloud = GcpCloud(kube, settings.gce_endpoint)
    gate = Gate(settings.networks)
    buckets = SecretBuckets(kube, gate)
    keys = SshKeys(kube, settings.ssh_key_file)
    sharing = Sharing(kube, settings.shared_secret_namespaces)
    compute, nodes = ComputeActivities(cloud, keys), NodeActivities(kube, memory.daemons)
    fleet = FleetActivities(client, kube, attributes=attributes)
    checkpoints = CheckpointActivities(apart, memory.running, memory.hosts, memory.under_way)
    images = ImageActivities(kube, gate)
    instances = [
        AlarmActivities(kube, settings.deployment),
        CapacityActivities(memory.hosts, memory.placed),
        CauseActivities(kube, gate),
        CertificateActivities(kube, cloud, memory.requests),
        checkpoints,
        compute,
        DiagnosisActivities(kube, cloud, keys),
        fleet,
        images,
        JoinActivities(cloud, kube, memory.requests, keys, settings.ssh_port),
        LogActivities(kube, buckets),
        LookActivities(compute, nodes, fleet),
        MarketActivities(client, attributes=attributes),
        nodes,
        OrphanedClaimActivities(client, kube, settings.namespace),
        OrphanedFinalizerActivities(client, kube, sharing),
        OrphanedImageActivities(client, kube, gate, sharing),
        OrphanedMachineActivities(client, kube, cloud, sharing),
        OrphanedObjectActivities(client, kube),
        OutputActivities(kube, cloud, keys, settings.ssh_port, buckets),
        PodAdmissionActivities(kube),
        PreemptionActivities(client, cloud),
        PreflightActivities(kube, cloud, buckets, gate, shared_for=settings.timings.recheck / 6),
        ReplicaActivities(apart, settings.namespace),
        BudgetActivities(kube),
        ReportActivities(buckets),
        SpecActivities(kube, settings.timings, sharing, settings.grants, attributes),
        StatusActivities(kube),
        CostActivities(kube),
        StorageActivities(buckets),
        StrangerActivities(kube),
        StuckActivities(client, kube),
        TidyActivities(checkpoints, images),
    ]
    return [method for instance in instances for method in _defined(instance)]


def _defined(instance: object) -> list[Callable[..., Any]]:
    methods = [getattr(instance, name) for name in dir(instance) if not name.startswith("_")]
    return [method for method in methods if hasattr(method, "__temporal_activity_definition")]


def deployment(version: WorkerDeploymentVersion | None) -> WorkerDeploymentConfig | None:
    """Pin each run to the version that began it; it moves by continue-as-new. None: without worker versioning."""
    if version is None:
        return None
    return WorkerDeploymentConfig(
        version=version, use_worker_versioning=True, default_versioning_behavior=VersioningBehavior.PINNED
    )


def build_workers(
    client: Client,
    kube: Kube,
    settings: Settings,
    implementations: Sequence[Callable[..., Any]],
    urgent_first: UrgentFirst,
) -> list[Worker]:
    """Make the workers of one cluster: one for each task queue, so that each has slots and pollers of its own.

    Args:
        client: the Temporal service that they poll.
        kube: the cluster, which is asked again before a refused call counts as forbidden.
        settings: how much they do at once, and as which version.
        implementations: what they carry out, as ``activities`` lists it.
        urgent_first: what lets urgent activities go first, in all of them together.
    """
    room = settings.room
    common: dict[str, Any] = {
        "activities": implementations,
        "interceptors": [LogContext(), urgent_first, Refusals(kube)],
        "graceful_shutdown_timeout": GRACE,
        "activity_task_poller_behavior": PollerBehaviorAutoscaling(maximum=MOST_POLLERS),
        # The same version: otherwise an activity on a queue that the run's version does not poll goes elsewhere.
        "deployment_config": deployment(settings.version),
    }
    return [
        Worker(
            client,
            task_queue=TASK_QUEUE,
            workflows=WORKFLOWS,
            # Not in the SDK's sandbox, whose copies of modules cost 1.4 MB and 75 ms a job: docs/decisions/0031.
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_cached_workflows=room.cached_workflows,
            max_concurrent_workflow_tasks=room.workflow_tasks,
            max_concurrent_activities=room.prompt,
            workflow_task_poller_behavior=PollerBehaviorAutoscaling(minimum=4, maximum=MOST_POLLERS, initial=8),
            sticky_queue_schedule_to_start_timeout=room.sticky,
            **common,
        ),
        Worker(client, task_queue=LONG_QUEUE, max_concurrent_activities=room.long, **common),
        Worker(
            client,
            task_queue=CREATES_QUEUE,
            max_concurrent_activities=room.prompt,
            max_task_queue_activities_per_second=settings.creates_per_second,
            **common,
        ),
    ]


@asynccontextmanager
async def at_work(workers: Sequence[Worker]) -> AsyncIterator[None]:
    """Let all workers work while the block runs, then give the activities of all of them the same ``GRACE``."""
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(worker)
        try:
            yield
        finally:
            await asyncio.gather(*(worker.shutdown() for worker in workers))
