"""Checkpoints: one ``CheckpointBackup`` each, which the external operator carries out.

The group is ``migration.dcnlab.com/v1`` of the stateful-migration operator. It runs a CheckpointBackup once, ignores
silently what lacks a namespace, and pushes to ``<registry.url>/<containers[].image>``.
"""

import asyncio
from datetime import UTC, datetime

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import ownership
from activities.pods import compile_pattern, containers_of, pods_of, reported_progress
from activities.repository import parse_repository
from activities.signatures import (
    CREATE_CHECKPOINT,
    DELETE_CHECKPOINT,
    OBSERVE_CHECKPOINT,
    CheckpointRef,
    CreateCheckpoint,
    JobRef,
    ReplicaRef,
)
from api import errors, names
from api.formats import misshapen
from api.projections import checkpoint_view, node_view
from api.views import CheckpointView
from clients.kube import Json, Kube, KubeError, path, selector

API_VERSION = f"{names.CHECKPOINT_GROUP}/{names.CHECKPOINT_VERSION}"
OPERATOR_FINALIZER = "checkpointbackup.migration.dcnlab.com/finalizer"
LOG_SECONDS = 1.0
"""How long the training's progress is looked for: on a notice every second counts."""
WORK_SECONDS = 1200.0
"""A CheckpointBackup of that age holds its node no longer: the operator's own client gives it up then."""
FINALIZER_SECONDS = 30.0
"""How long the operator's agent may take to let go of a deleted CheckpointBackup; its node may be gone."""


class CheckpointActivities:
    """Asks for checkpoints. ``kube`` may write CheckpointBackups and read pods and their logs in any namespace."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    @activity.defn(name=CREATE_CHECKPOINT.name)
    async def create_checkpoint(self, request: CreateCheckpoint) -> CheckpointView:
        """Ask for a checkpoint of a running replica, now; the one of that number is found again after a retry.

        Raises:
            ApplicationError: ``errors.MISSING`` where no pod of the replica runs on a Ready node, ``errors.BUSY``
                where another checkpoint is under way on that node, ``errors.INVALID`` where there is no repository to
                push to, ``errors.CONFLICT`` where the name is somebody else's.
        """
        job = request.job
        ref = ReplicaRef(job=job, replica=request.replica, incarnation=request.incarnation)
        pod = next((pod for pod in await pods_of(self._kube, ref) if _runs(pod)), None)
        if pod is None:
            # The operator would leave it without a status for ever. It may have been asked before the pod ended.
            if asked := await self._asked(request):
                return checkpoint_view(asked)
            raise ApplicationError(
                f"replica {request.replica} of {job.namespace}/{job.name} has no running pod to checkpoint",
                type=errors.MISSING,
                non_retryable=True,
            )
        reported, _ = await asyncio.gather(self._progress(request, pod), self._check_node(request, pod))
        body = _checkpoint_backup(request, pod, reported)
        try:
            return checkpoint_view(await self._kube.create(_path(job), body))
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise
        if asked := await self._asked(request):
            return checkpoint_view(asked)
        raise ApplicationError(
            f"CheckpointBackup {job.namespace}/{body['metadata']['name']} belongs to somebody else: delete it",
            type=errors.CONFLICT,
            non_retryable=True,
        )

    async def _asked(self, request: CreateCheckpoint) -> Json | None:
        """The CheckpointBackup of this very request, where there is one already.

        One of that number that was asked for by a run of the job that is over says nothing of this one: it is deleted,
        and the next attempt finds the name free.
        """
        found = await self._find(request.job, request.number)
        if found is None or _asks_the_same(found, request):
            return found
        metadata = found["metadata"]
        await self._kube.delete(_path(request.job, metadata["name"]), uid=metadata["uid"])
        raise ConnectionError(f"CheckpointBackup {metadata['name']} of an earlier run is in the way: deleted")

    async def _check_node(self, request: CreateCheckpoint, pod: Json) -> None:
        """The node can do it: the operator leaves one that is not Ready without an answer, and does one at a time."""
        name = pod["spec"]["nodeName"]
        node, all_asked = await asyncio.gather(
            self._kube.find(path("v1", "nodes", name=name)),
            self._kube.list(
                path(API_VERSION, names.CHECKPOINT_PLURAL),
                labelSelector=selector({names.LABEL_MANAGED_BY: names.MANAGED_BY}),
            ),
        )
        if node is None or not node_view(node).ready:
            raise ApplicationError(
                f"node {name} is not Ready: no checkpoint can be made there", type=errors.MISSING, non_retryable=True
            )
        for backup in all_asked:
            works = _works_on(backup, name) and not _asks_the_same(backup, request)
            if works and await self._is_of_a_pod_on(backup, name):
                where = f"{backup['metadata']['namespace']}/{backup['metadata']['name']}"
                raise ApplicationError(
                    f"CheckpointBackup {where} is under way on node {name}", type=errors.BUSY, non_retryable=True
                )

    async def _is_of_a_pod_on(self, backup: Json, node: str) -> bool:
        """Not only by its own annotation: a team could say that of another's node, and keep it from checkpoints."""
        asked = (backup.get("spec") or {}).get("podRef") or {}
        there = await self._kube.list(
            path("v1", "pods", backup["metadata"]["namespace"]), fieldSelector=selector({"spec.nodeName": node})
        )
        return any(pod["metadata"]["name"] == asked.get("name") for pod in there)

    async def _progress(self, request: CreateCheckpoint, pod: Json) -> float | None:
        """What the training reported last; None where it reports nothing or its log does not come in time."""
        if request.config.progress is None:
            return None
        try:
            async with asyncio.timeout(LOG_SECONDS):
                expression = compile_pattern(request.config.progress.log_pattern)
                return await reported_progress(self._kube, pod, expression)
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

        The finalizer of an operator that does not answer is taken off after ``FINALIZER_SECONDS``.
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
        await self._kube.rewrite(where, found, {"metadata": {"finalizers": kept}})  # else the next call looks again

    async def _find(self, job: JobRef, number: int) -> Json | None:
        found = await self._kube.find(_path(job, names.checkpoint_name(job.name, job.job_id, number)))
        return found if found is not None and ownership.belongs_to(found, job.job_id) else None


def _path(job: JobRef, name: str | None = None) -> str:
    return path(API_VERSION, names.CHECKPOINT_PLURAL, job.namespace, name)


def _runs(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def _asks_the_same(backup: Json, request: CreateCheckpoint) -> bool:
    """Made for this request: the moment of a request is in the tag, which no retry changes."""
    metadata = backup["metadata"]
    labels, tag = metadata.get("labels") or {}, (metadata.get("annotations") or {}).get(names.ANNOTATION_TAG, "")
    wanted = ownership.labels(request.job.job_id, request.replica, request.incarnation)
    parsed = names.parse_image_tag(tag)
    return wanted.items() <= labels.items() and parsed is not None and parsed[2] == request.unix


def _works_on(backup: Json, node: str) -> bool:
    metadata = backup["metadata"]
    there = (metadata.get("annotations") or {}).get(names.ANNOTATION_NODE) == node
    young = _seconds_since(metadata["creationTimestamp"]) < WORK_SECONDS
    return there and young and "deletionTimestamp" not in metadata and not checkpoint_view(backup).ended


def _checkpoint_backup(request: CreateCheckpoint, pod: Json, reported: float | None) -> Json:
    """The object; every field on which the operator would otherwise give up in silence is set."""
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
        for wrong in misshapen(credentials):  # the operator would get it as it is
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
            # The operator puts the host before it: one in here would double it.
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
