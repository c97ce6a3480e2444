"""Checkpoint images of jobs that are gone, if the installation wants them removed.

A tag does not say to which cluster its job belonged, and registries are shared. So only images of those jobs are
considered that this Temporal namespace itself has run and closed, in repositories that a job of this cluster names.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from pydantic import ValidationError
from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from activities import signatures
from activities.documents.checks import LATEST_TAG
from activities.kubernetes.secret import Sharing
from activities.network.gate import Gate
from activities.orphans.owners import Owners, is_finished, is_old, owners
from activities.registry.client import Registry
from activities.registry.credentials import repository_credentials
from activities.registry.repository import Repository, parse_image, parse_repository
from activities.signatures import DeleteImages, JobRef, OrphanedImages, SweepRequest
from api import names
from api.common import SecretReference
from api.spot_instance_job import CheckpointConfig, SpotInstanceJobSpec
from clients.kube import Json, Kube, KubeError

RUNS = 2000
"""Number of closed runs that are read, the newest first."""
AT_ONCE = 50
"""Images in one deletion: an activity has a minute for them."""
_CLOSED = "('Completed', 'Failed', 'Canceled', 'Terminated', 'TimedOut')"


class OrphanedImageActivities:
    """Finds orphaned images.

    Args:
        temporal: the service that ran the jobs.
        kube: the cluster, with the Secrets that open its jobs' repositories.
        gate: the gate through which registries are reached.
        sharing: the rules on Secrets of other namespaces.
    """

    def __init__(self, temporal: Client, kube: Kube, gate: Gate, sharing: Sharing | None = None) -> None:
        self._temporal = temporal
        self._gate = gate
        self._kube = kube
        self._sharing = sharing or Sharing(kube)

    @activity.defn(name=signatures.FIND_ORPHANED_IMAGES.name)
    async def find_orphaned_images(self, request: SweepRequest) -> OrphanedImages:
        """Find the images of jobs that are gone, in the repositories that jobs of this cluster name."""
        asked = await owners(self._temporal, self._kube, request.cluster_id)
        gone = await self._gone(asked, request)
        seen, deletions, unreadable = 0, list[DeleteImages](), list[str]()
        for repository, (namespace, spec) in _repositories(asked.jobs.values()).items():
            try:
                tags = await self._tags(repository, namespace, spec) if gone else []
            except (ApplicationError, ConnectionError, KubeError, ValueError) as error:
                unreadable.append(f"{repository.name}: {error}")
                continue
            ours = [(tag, found) for tag in tags if (found := names.parse_image_tag(tag)) is not None]
            seen += len(ours)
            for job_id in gone:
                old = [tag for tag, found in ours if found[0] == job_id and _is_over(found[2], request)]
                deletions += _deletions(repository.name, old, job_id, namespace, spec)
        return OrphanedImages(deletions=deletions, seen=seen, unreadable=unreadable)

    async def _gone(self, asked: Owners, request: SweepRequest) -> set[str]:
        """List the ids of jobs that this cluster had, from the closed runs that Temporal has kept."""
        query = f"WorkflowType='{names.JOB_WORKFLOW}' AND ExecutionStatus IN {_CLOSED}"
        gone = set()
        async for run in self._temporal.list_workflows(query, limit=RUNS):
            memo = await run.memo()
            if memo.get("cluster") != request.cluster_id or not memo.get("uid"):
                continue
            job_id = names.job_id(request.cluster_id, str(memo["uid"]))
            if await asked.is_gone(job_id, run.id):
                gone.add(job_id)
        return gone

    async def _tags(self, repository: Repository, namespace: str, spec: SpotInstanceJobSpec) -> list[str]:
        reference, cloud = spec.checkpoint_config.checkpoint_repo_credential_ref, spec.gcp_credentials_secret_ref
        for secret in filter(None, (reference, cloud)):
            await self._check(secret, namespace)
        credentials = await repository_credentials(self._kube, repository.name, reference, cloud, namespace)
        async with Registry(repository, credentials, self._gate) as registry:
            return (await registry.tags()).names

    async def _check(self, secret: SecretReference, namespace: str) -> None:
        if not await self._sharing.permits(secret, namespace):
            raise ValueError(f"Secret {secret.namespace}/{secret.name} is not shared with {namespace}")


def _repositories(jobs: Iterable[Json]) -> dict[Repository, tuple[str, SpotInstanceJobSpec]]:
    """Map each repository to the job by whose credentials it is reached; skip those that a job restores from."""
    found: dict[Repository, tuple[str, SpotInstanceJobSpec]] = {}
    needed = set()
    for job in jobs:
        try:
            spec = SpotInstanceJobSpec.model_validate(job["spec"])
        except ValidationError:
            continue
        config, finished = spec.checkpoint_config, is_finished(job)
        try:
            needed |= set() if finished else _restored_from(config)
            repository = parse_repository(config.checkpoint_image_repo or "")
        except ValueError:
            continue  # the job was never accepted
        found.setdefault(repository, (job["metadata"]["namespace"], spec))
    return {repository: reached for repository, reached in found.items() if repository not in needed}


def _restored_from(config: CheckpointConfig) -> set[Repository]:
    if config.restore_from is None or config.mode != "Image":
        return set()
    if config.restore_from == LATEST_TAG:
        return {parse_repository(config.checkpoint_image_repo or "")}
    return {parse_image(config.restore_from).repository}


def _is_over(unix: int, request: SweepRequest) -> bool:
    after = max(request.grace, request.images_after or 0)
    return is_old(datetime.fromtimestamp(unix, UTC), after)


def _deletions(
    repository: str, tags: list[str], job_id: str, namespace: str, spec: SpotInstanceJobSpec
) -> list[DeleteImages]:
    job = JobRef(namespace=namespace, name="-", uid="-", job_id=job_id)
    images = [f"{repository}:{tag}" for tag in sorted(tags)]
    return [
        DeleteImages(
            job=job,
            config=spec.checkpoint_config,
            images=images[first : first + AT_ONCE],
            cloud_credentials=spec.gcp_credentials_secret_ref,
        )
        for first in range(0, len(images), AT_ONCE)
    ]
