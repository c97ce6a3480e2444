"""The activities on checkpoints: each is one ``CheckpointBackup``, which the external operator carries out.

The group is ``migration.dcnlab.com/v1`` of the stateful-migration operator. The operator runs a CheckpointBackup once,
silently ignores one that lacks a namespace, and pushes to ``<registry.url>/<containers[].image>``.
"""

import asyncio
from datetime import UTC, datetime

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.checkpoints.memory import API_VERSION, Running, UnderWay, made_for, purpose_of, runs, under_way, whose
from activities.kubernetes import ownership
from activities.placement.hosts import Host
from activities.registry.repository import parse_repository
from activities.replicas.pods import compile_pattern, containers_of, pods_of, reported_progress
from activities.signatures import (
    CREATE_CHECKPOINT,
    DELETE_CHECKPOINT,
    OBSERVE_CHECKPOINT,
    CheckpointRef,
    CreateCheckpoint,
    JobRef,
    ReplicaRef,
    RequestedCheckpoint,
)
from api import errors, names
from api.formats import misshapen
from api.projections import checkpoint_view, node_view
from api.views import CheckpointView
from clients.informer import Informer
from clients.kube import Json, Kube, KubeError, path, selector

OPERATOR_FINALIZER = "checkpointbackup.migration.dcnlab.com/finalizer"
LOG_SECONDS = 1.0
"""Limit for reading the training's progress: every second counts after a notice."""
FINALIZER_SECONDS = 30.0
"""Time that the operator's agent has to release a deleted CheckpointBackup; its node may be gone."""


class CheckpointActivities:
    """Creates and reads checkpoints.

    Args:
        kube: the cluster, in which it may write CheckpointBackups, and read pods and logs, in any namespace.
        pods: the replicas' pods, of the kind ``RUNNING``.
        hosts: the nodes, of the kind ``HOSTS``.
        backups: the checkpoints, of the kind ``UNDER_WAY``.
    """

    def __init__(self, kube: Kube, pods: Informer[Running], hosts: Informer[Host], backups: Informer[UnderWay]) -> None:
        self._kube = kube
        self._pods = pods
        self._hosts = hosts
        self._backups = backups

    @activity.defn(name=CREATE_CHECKPOINT.name)
    async def create_checkpoint(self, request: CreateCheckpoint) -> RequestedCheckpoint:
        """Request a checkpoint of a running replica, now. A retry finds the one with the same number.

        After a notice every moment counts, so nothing is read that is in a current memory. What memory says against the
        checkpoint is read again before it is believed.

        Raises:
            ApplicationError: ``errors.MISSING`` if no pod of the replica runs on a Ready node, ``errors.BUSY`` if
                another checkpoint is under way on that node, ``errors.INVALID`` if no repository to push to is set,
                ``errors.CONFLICT`` if the name belongs to somebody else.
        """
        job = request.job
        pod = await self._running_pod(request)
        if pod is None:
            # The operator would never give it a status. It may have been requested before the pod ended.
            if asked := await self._asked(request):
                return _requested(asked)
            raise ApplicationError(
                f"replica {request.replica} of {job.namespace}/{job.name} has no running pod to checkpoint",
                type=errors.MISSING,
                non_retryable=True,
            )
        reported, _ = await asyncio.gather(self._progress(request, pod), self._check_node(request, pod))
        body = _checkpoint_backup(request, pod, reported)
        try:
            created = await self._kube.create(_path(job), body)
            self._backups.learn(created)
            return _requested(created)
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise
        if asked := await self._asked(request):
            return _requested(asked)
        raise ApplicationError(
            f"CheckpointBackup {job.namespace}/{body['metadata']['name']} belongs to somebody else: delete it",
            type=errors.CONFLICT,
            non_retryable=True,
        )

    async def _asked(self, request: CreateCheckpoint) -> Json | None:
        """Find the CheckpointBackup of this very request; None if it does not exist.

        One with that number from an earlier run of the job says nothing about this request. It is deleted, and the next
        attempt finds the name free.
        """
        found = await self._find(request.job, request.number)
        if found is None or made_for(found) == purpose_of(request):
            return found
        metadata = found["metadata"]
        await self._kube.delete(_path(request.job, metadata["name"]), uid=metadata["uid"])
        raise ConnectionError(f"CheckpointBackup {metadata['name']} of an earlier run is in the way: deleted")

    async def _running_pod(self, request: CreateCheckpoint) -> Json | None:
        mine = whose(request.job.namespace, request.job.job_id, (request.replica, request.incarnation))
        if remembered := self._pods.known.of(mine) if self._pods.current else None:
            return next(iter(remembered.values())).pod
        ref = ReplicaRef(job=request.job, replica=request.replica, incarnation=request.incarnation)
        return next((pod for pod in await pods_of(self._kube, ref) if runs(pod)), None)

    async def _check_node(self, request: CreateCheckpoint, pod: Json) -> None:
        """Check that the node can make it: the operator ignores a node that is not Ready, and makes one at a time."""
        name = pod["spec"]["nodeName"]
        ready, backups = await asyncio.gather(self._is_ready(name), self._backups.read(within=0))
        if not ready:
            raise ApplicationError(
                f"node {name} is not Ready: no checkpoint can be made there", type=errors.MISSING, non_retryable=True
            )
        for backup in [*backups.of(name).values()]:
            works = backup.occupies and backup.purpose != purpose_of(request)
            if works and await self._is_still_under_way(backup) and await self._is_of_a_pod_on(backup):
                raise ApplicationError(
                    f"CheckpointBackup {backup.namespace}/{backup.name} is under way on node {name}",
                    type=errors.BUSY,
                    non_retryable=True,
                )

    async def _is_ready(self, name: str) -> bool:
        host = self._hosts.known.items.get(name) if self._hosts.current else None
        if host is not None and host.ready:
            return True
        node = await self._kube.find(path("v1", "nodes", name=name))
        return node is not None and node_view(node).ready

    async def _is_still_under_way(self, backup: UnderWay) -> bool:
        """True if it has not ended in the moment since memory heard of it."""
        found = await self._kube.find(path(API_VERSION, names.CHECKPOINT_PLURAL, backup.namespace, backup.name))
        return found is not None and under_way(found) is not None

    async def _is_of_a_pod_on(self, backup: UnderWay) -> bool:
        """True if its pod is on its node, whatever its annotation claims.

        The annotation alone proves nothing: a team could name another team's node and block its checkpoints.
        """
        there = await self._kube.list(
            path("v1", "pods", backup.namespace), fieldSelector=selector({"spec.nodeName": backup.node})
        )
        return any(pod["metadata"]["name"] == backup.pod for pod in there)

    async def _progress(self, request: CreateCheckpoint, pod: Json) -> float | None:
        """Read the progress last reported; None if the training reports none or its log does not arrive in time."""
        if request.config.progress is None:
            return None
        try:
            async with asyncio.timeout(LOG_SECONDS):
                expression = compile_pattern(request.config.progress.log_pattern)
                return (await reported_progress(self._kube, pod, expression))[0]
        except (TimeoutError, ValueError):
            return None

    @activity.defn(name=OBSERVE_CHECKPOINT.name)
    async def observe_checkpoint(self, ref: CheckpointRef) -> CheckpointView:
        """Read a CheckpointBackup."""
        found = await self._find(ref.job, ref.number)
        return checkpoint_view(found) if found is not None else _gone(ref)

    @activity.defn(name=DELETE_CHECKPOINT.name)
    async def delete_checkpoint(self, ref: CheckpointRef) -> CheckpointView:
        """Delete a CheckpointBackup; call again until it does not exist. Its images stay in the registry.

        The finalizer of an operator that does not answer is removed after ``FINALIZER_SECONDS``.
        """
        found = await self._find(ref.job, ref.number)
        if found is None:
            return _gone(ref)
        metadata = found["metadata"]
        where = _path(ref.job, metadata["name"])
        if "deletionTimestamp" not in metadata:
            await self._kube.delete(where, uid=metadata["uid"])
        elif _seconds_since(metadata["deletionTimestamp"]) > FINALIZER_SECONDS:
            await self._let_go(where, found)
        return await self.observe_checkpoint(ref)

    async def _let_go(self, where: str, found: Json) -> None:
        finalizers = found["metadata"].get("finalizers") or []
        kept = [finalizer for finalizer in finalizers if finalizer != OPERATOR_FINALIZER]
        await self._kube.rewrite(where, found, {"metadata": {"finalizers": kept}})  # else the next call tries again

    async def _find(self, job: JobRef, number: int) -> Json | None:
        found = await self._kube.find(_path(job, names.checkpoint_name(job.name, job.job_id, number)))
        return found if found is not None and ownership.belongs_to(found, job.job_id) else None


def _path(job: JobRef, name: str | None = None) -> str:
    return path(API_VERSION, names.CHECKPOINT_PLURAL, job.namespace, name)


def _requested(backup: Json) -> RequestedCheckpoint:
    return RequestedCheckpoint(**checkpoint_view(backup).model_dump())


def _checkpoint_backup(request: CreateCheckpoint, pod: Json, reported: float | None) -> Json:
    """Build the object. The operator would silently ignore one that lacks any of these fields."""
    job, config = request.job, request.config
    if config.checkpoint_image_repo is None:
        raise ApplicationError(
            "checkpointConfig.checkpointImageRepo is not set: a checkpoint image has to be pushed somewhere",
            type=errors.INVALID,
            non_retryable=True,
        )
    try:
        repository = parse_repository(config.checkpoint_image_repo)
    except ValueError as error:
        raise ApplicationError(f"checkpointImageRepo: {error}", type=errors.INVALID, non_retryable=True) from error
    progress = request.lineage_seconds if reported is None else reported
    tag = names.image_tag(job.job_id, progress, request.unix)
    containers = containers_of(pod)
    registry: Json = {"url": repository.url, "repository": repository.path}
    credentials = config.checkpoint_repo_credential_ref
    if credentials is not None:
        for wrong in misshapen(credentials):  # the operator would receive it unchecked
            message = f"checkpointConfig.checkpointRepoCredentialRef.{wrong}"
            raise ApplicationError(message, type=errors.INVALID, non_retryable=True)
        registry["secretRef"] = {"name": credentials.name, "namespace": credentials.namespace or job.namespace}
    job_name = names.replica_job_name(job.name, job.job_id, request.replica, request.incarnation)
    return {
        "apiVersion": API_VERSION,
        "kind": "CheckpointBackup",
        "metadata": {
            "name": names.checkpoint_name(job.name, job.job_id, request.number),
            "namespace": job.namespace,
            "labels": ownership.labels(job.job_id, request.replica, request.incarnation),
            "annotations": ownership.annotations(job)
            | {
                names.ANNOTATION_NODE: pod["spec"]["nodeName"],
                names.ANNOTATION_TAG: tag,
                names.ANNOTATION_PROGRESS: str(progress),
                names.ANNOTATION_REPORTED: str(reported is not None).lower(),
            },
            "ownerReferences": [ownership.owner(job)],
        },
        "spec": {
            "schedule": "immediately",
            "stopPod": False,
            "podRef": {"name": pod["metadata"]["name"], "namespace": job.namespace},
            "resourceRef": {"apiVersion": "batch/v1", "kind": "Job", "name": job_name, "namespace": job.namespace},
            "registry": registry,
            # The operator prefixes the host: a host in here would appear twice.
            "containers": [
                {"name": name, "image": f"{repository.path}:{names.container_tag(tag, name, containers)}"}
                for name in containers
            ],
        },
    }


def _gone(ref: CheckpointRef) -> CheckpointView:
    name = names.checkpoint_name(ref.job.name, ref.job.job_id, ref.number)
    return CheckpointView(name=name, exists=False)


def _seconds_since(timestamp: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds()
