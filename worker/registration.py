"""What a worker can do: all workflows, sandboxed, and all activities with their clients."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.budgets import BudgetActivities
from activities.capacity import CapacityActivities
from activities.causes import CauseActivities
from activities.certificates.activities import CertificateActivities
from activities.checkpoints import CheckpointActivities
from activities.compute.activities import ComputeActivities
from activities.compute.gcp import GcpCloud
from activities.fleet import FleetActivities
from activities.gate import Gate
from activities.images import ImageActivities
from activities.join import JoinActivities
from activities.logs import LogActivities
from activities.market import MarketActivities
from activities.nodes import NodeActivities
from activities.orphans.alarm import AlarmActivities
from activities.orphans.claims import OrphanedClaimActivities
from activities.orphans.holds import OrphanedHoldActivities
from activities.orphans.images import OrphanedImageActivities
from activities.orphans.machines import OrphanedMachineActivities
from activities.orphans.objects import OrphanedObjectActivities
from activities.outputs import OutputActivities
from activities.pod_admission import PodAdmissionActivities
from activities.preflight import PreflightActivities
from activities.refusals import Refusals
from activities.replicas import ReplicaActivities
from activities.reports import ReportActivities
from activities.secret import Sharing
from activities.specs import SpecActivities
from activities.ssh import SshKeys
from activities.status import StatusActivities
from activities.storage.activities import StorageActivities
from activities.storage.bucket import SecretBuckets
from activities.strangers import StrangerActivities
from api.names import CREATES_QUEUE, TASK_QUEUE
from clients.kube import Kube
from worker.settings import Settings
from workflows.spot_instance_job import SpotInstanceJob
from workflows.spot_market import SpotMarket
from workflows.spot_vm import SpotVM
from workflows.sweep import Sweep

WORKFLOWS = [SpotInstanceJob, SpotVM, SpotMarket, Sweep]
# Vocabulary, models and pure functions hold no state, so each workflow need not load its own copy of them. What acts is
# not passed through: the sandbox refuses it the wall clock, randomness and I/O.
MODELS = ("workflows.state", "workflows.vm_state", "workflows.market_state")
PASSED_THROUGH = ("api", "activities.signatures", "workflows.policy", *MODELS)
GRACE = timedelta(seconds=25)  # the pod's terminationGracePeriodSeconds exceeds it


def sandbox() -> SandboxedWorkflowRunner:
    """The workflow sandbox, with what is passed through it."""
    return SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH))


def activities(client: Client, kube: Kube, settings: Settings, cluster_id: str) -> list[Callable[..., Any]]:
    """All activities, bound to their clients."""
    cloud = GcpCloud(kube, settings.gce_endpoint)
    gate = Gate(settings.networks)
    buckets = SecretBuckets(kube, gate)
    keys = SshKeys(kube, settings.ssh_key_file)
    sharing = Sharing(kube, settings.shared_secret_namespaces)
    instances = [
        AlarmActivities(kube),
        CapacityActivities(kube),
        CauseActivities(kube, gate),
        CertificateActivities(kube, cloud),
        CheckpointActivities(kube),
        ComputeActivities(cloud, keys),
        FleetActivities(client, kube),
        ImageActivities(kube, gate),
        JoinActivities(cloud, kube, keys, settings.ssh_port),
        LogActivities(kube, buckets),
        MarketActivities(client),
        NodeActivities(kube),
        OrphanedClaimActivities(client, kube, settings.namespace),
        OrphanedHoldActivities(client, kube, sharing),
        OrphanedImageActivities(client, kube, gate, sharing),
        OrphanedMachineActivities(client, kube, cloud, sharing),
        OrphanedObjectActivities(client, kube),
        OutputActivities(kube, cloud, keys, settings.ssh_port, buckets),
        PodAdmissionActivities(kube),
        PreflightActivities(kube, cloud, buckets, gate, shared_for=settings.timings.recheck / 6),
        ReplicaActivities(kube, settings.namespace),
        BudgetActivities(kube),
        ReportActivities(buckets),
        SpecActivities(kube, settings.timings, sharing, settings.grants),
        StatusActivities(kube),
        StorageActivities(buckets),
        StrangerActivities(kube),
    ]
    return [method for instance in instances for method in _defined(instance)]


def _defined(instance: object) -> list[Callable[..., Any]]:
    methods = [getattr(instance, name) for name in dir(instance) if not name.startswith("_")]
    return [method for method in methods if hasattr(method, "__temporal_activity_definition")]


def deployment(version: WorkerDeploymentVersion | None) -> WorkerDeploymentConfig | None:
    """Each run stays on the version that began it, and moves by continue-as-new; None: without worker versioning."""
    if version is None:
        return None
    return WorkerDeploymentConfig(
        version=version, use_worker_versioning=True, default_versioning_behavior=VersioningBehavior.PINNED
    )


def build_workers(client: Client, kube: Kube, settings: Settings, cluster_id: str) -> list[Worker]:
    """The workers of one cluster: of everything, and of the creations of VMs, whose rate the service bounds."""
    implementations = activities(client, kube, settings, cluster_id)
    version = deployment(settings.version)
    return [
        Worker(
            client,
            task_queue=TASK_QUEUE,
            workflows=WORKFLOWS,
            activities=implementations,
            workflow_runner=sandbox(),
            interceptors=[Refusals(kube)],
            graceful_shutdown_timeout=GRACE,
            # A killed worker's workflows go on in another after a second instead of ten (measured).
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
            deployment_config=version,
        ),
        Worker(
            client,
            task_queue=CREATES_QUEUE,
            activities=implementations,
            interceptors=[Refusals(kube)],
            graceful_shutdown_timeout=GRACE,
            max_task_queue_activities_per_second=settings.creates_per_second,
            # Of the same version: an activity on a queue that a run's version does not poll goes to the current one's.
            deployment_config=version,
        ),
    ]
