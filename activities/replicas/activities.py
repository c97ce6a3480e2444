"""The activities on replicas: the Job of each incarnation, its pod, its progress."""

import asyncio
import contextlib
import hashlib
import json

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.kubernetes import ownership
from activities.placement.claims import Claims
from activities.preflight.answers import Answers
from activities.registry.credentials import pull_secret, pulls_by, repository_credentials
from activities.replicas.blockers import read_start
from activities.replicas.gang import is_gang, service
from activities.replicas.job_builder import build_job
from activities.replicas.pods import Expression, compile_pattern, member_of, pods_of, reported_progress
from activities.replicas.told_events import ToldEvents
from activities.signatures import (
    CREATE_REPLICA,
    LOOK_AT_REPLICAS,
    OBSERVE_REPLICA,
    READ_PROGRESS,
    READ_START,
    STOP_REPLICA,
    CreateReplica,
    LookAtReplicas,
    ProgressReading,
    ReadProgress,
    ReplicaRef,
    SeenReplicas,
    StartReading,
    StopReplica,
)
from api import errors, names
from api.projections import node_view, replica_view
from api.views import NodeView, PodView, ReplicaView
from clients.kube import Json, Kube, KubeError, path, selector

STOPS_AT_ONCE = 32
"""Pods of a gang that are deleted at the same time: one after the other, 256 of them would take seconds of a notice."""

LOGS_AT_ONCE = 16
"""Logs of a gang that are read at the same time: each may take four MiB of memory."""

MEMBERS_SECONDS = 12.0
"""Seconds for the logs of all members of a gang, so that nodes that do not answer cost the others nothing."""


class ReplicaActivities:
    """Creates, watches and ends replicas.

    Args:
        kube: the cluster, in which it may write Jobs, pods and Secrets of any namespace.
        namespace: the installation's namespace, in which CDI devices are claimed.
    """

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._claims = Claims(kube, namespace)
        self._events = ToldEvents(kube)
        # The replicas of a job are created together, and apply the same Secret: one call does for all that wait for it.
        self._pull_secrets = Answers[None](0, lambda _: True)

    @activity.defn(name=CREATE_REPLICA.name)
    async def create_replica(self, request: CreateReplica) -> ReplicaView:
        """Create the Job of an incarnation; a retry finds it.

        It is never created beside a later one: a workflow that was reset to an earlier moment would begin a second
        training.

        Raises:
            ApplicationError: BUSY if other jobs have claimed the CDI devices of all nodes that were found.
        """
        job = request.job
        await self._refuse_beside_later(request)
        await self._prepare_pull(request)
        if is_gang(request):
            await self._publish_members(request)
        try:
            build_job(request)  # an error in the template is raised before anything is claimed
            body = build_job(request.model_copy(update={"nodes": await self._claims.pin(request)}))
        except ValueError as error:
            raise ApplicationError(str(error), type=errors.INVALID, non_retryable=True) from error
        try:
            created = await self._kube.create(path("batch/v1", "jobs", job.namespace), body)
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise
            return await self._existing(ReplicaRef(job=job, replica=request.replica, incarnation=request.incarnation))
        return replica_view(created["metadata"]["name"], created, [])

    async def _refuse_beside_later(self, request: CreateReplica) -> None:
        labels = {names.LABEL_JOB: request.job.job_id, names.LABEL_REPLICA: str(request.replica)}
        where = path("batch/v1", "jobs", request.job.namespace)
        jobs = await self._kube.list(where, labelSelector=selector(labels))
        there = [names.incarnation_in(each["metadata"]["labels"]) for each in jobs]
        if (latest := max((found[1] for found in there if found), default=-1)) > request.incarnation:
            raise ApplicationError(
                f"incarnation {latest} of replica {request.replica} exists, which is later than {request.incarnation}",
                latest,
                type=errors.SUPERSEDED,
                non_retryable=True,
            )

    async def _prepare_pull(self, request: CreateReplica) -> None:
        """Write the Secret with which the pod pulls its images."""
        if pulls_by(request) is None:
            return
        job, repository = request.job, request.checkpoint_image_repo
        credentials = await repository_credentials(
            self._kube, repository, request.image_pull, request.cloud_credentials, job.namespace
        )
        if credentials is not None:
            secret = pull_secret(job, credentials, repository)
            where = path("v1", "secrets", job.namespace, secret["metadata"]["name"])
            content = hashlib.sha256(json.dumps(secret, sort_keys=True).encode()).digest()
            await self._pull_secrets.ask((where, content), lambda: self._apply(where, secret), known=False)

    async def _apply(self, where: str, body: Json) -> None:
        await self._kube.apply(where, body, ownership.FIELD_MANAGER)

    async def _publish_members(self, request: CreateReplica) -> None:
        """Create the Service by which the members of a gang find each other.

        It exists before their pods: a name that is asked for too early is unknown to DNS for half a minute.
        """
        body, namespace = service(request), request.job.namespace
        try:
            await self._kube.create(path("v1", "services", namespace), body)
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise
            name = body["metadata"]["name"]
            found = await self._kube.find(path("v1", "services", namespace, name))
            if found is not None and not ownership.belongs_to(found, request.job.job_id):
                raise ApplicationError(
                    f"Service {namespace}/{name} exists and belongs to somebody else: delete or rename it",
                    type=errors.CONFLICT,
                    non_retryable=True,
                ) from error

    async def _existing(self, ref: ReplicaRef) -> ReplicaView:
        view = await self._observe(ref)
        if not view.job_exists:
            raise ApplicationError(
                f"Job {ref.job.namespace}/{view.job_name} exists and belongs to somebody else: delete or rename it",
                type=errors.CONFLICT,
                non_retryable=True,
            )
        return view

    @activity.defn(name=OBSERVE_REPLICA.name)
    async def observe_replica(self, ref: ReplicaRef) -> ReplicaView:
        """Read the Job and its pod."""
        return await self._observe(ref)

    async def _observe(self, ref: ReplicaRef) -> ReplicaView:
        return replica_view(_job_name(ref), *await self._read(ref))

    async def _read(self, ref: ReplicaRef) -> tuple[Json | None, list[Json]]:
        """Read the incarnation's Job, unless it is not ours, and its pods."""
        job = await self._kube.find(path("batch/v1", "jobs", ref.job.namespace, _job_name(ref)))
        if job is not None and not ownership.belongs_to(job, ref.job.job_id):
            job = None
        return job, await pods_of(self._kube, ref)

    @activity.defn(name=LOOK_AT_REPLICAS.name)
    async def look_at_replicas(self, look: LookAtReplicas) -> SeenReplicas:
        """Read the Jobs, the pods and the nodes of several replicas at once."""
        refs = [ReplicaRef(job=look.job, replica=index, incarnation=number) for index, number in look.replicas]
        replicas = await asyncio.gather(*map(self._observe, refs))
        nodes = await asyncio.gather(*map(self._node, look.nodes))
        readings = []
        if look.log_pattern is not None:
            readings = await self._read_progress(refs, look.log_pattern, of_all_members=True)
        return SeenReplicas(replicas=list(replicas), nodes=list(nodes), readings=readings)

    async def _node(self, name: str) -> NodeView:
        node = await self._kube.find(path("v1", "nodes", name=name))
        return node_view(node) if node is not None else NodeView(name=name, exists=False)

    @activity.defn(name=READ_START.name)
    async def read_start(self, ref: ReplicaRef) -> StartReading:
        """Read why the pod does not run yet: from the Job, the pod and the Events of both.

        Of a gang it is the first that is missing, or does not run.
        """
        job, pods = await self._read(ref)
        if job is None:
            return StartReading()
        late = _late(replica_view(job["metadata"]["name"], job, pods), members=job["spec"].get("completions", 1))
        pod = next((each for each in pods if late and each["metadata"]["uid"] == late.uid), None)
        uid = (pod or job)["metadata"]["uid"]
        return read_start(job, pod, await self._events.about(ref.job.namespace, uid))

    @activity.defn(name=STOP_REPLICA.name)
    async def stop_replica(self, request: StopReplica) -> ReplicaView:
        """Stop the pods, or delete the Job with them; the request is under way when this returns.

        Without ``force`` each pod has its grace, or ``grace`` if that is shorter, and a Job being deleted stays until
        its pods are gone. With ``force`` nobody waits for a kubelet, so it is only for a machine that is known not to
        run any more.
        """
        ref = request.ref
        view = await self._observe(ref)
        if request.delete_job and view.job_exists:
            where = path("batch/v1", "jobs", ref.job.namespace, view.job_name)
            propagation = "Background" if request.force else "Foreground"
            await self._kube.delete(where, uid=view.job_uid, propagation=propagation)
        if request.force or request.grace is not None or not request.delete_job or not view.job_exists:
            few = asyncio.Semaphore(STOPS_AT_ONCE)
            await asyncio.gather(*(self._stop_pod(pod, request, few) for pod in await pods_of(self._kube, ref)))
        return await self._observe(ref)

    async def _stop_pod(self, pod: Json, request: StopReplica, few: asyncio.Semaphore) -> None:
        metadata = pod["metadata"]
        ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        # A stopping pod keeps its grace; an ended one keeps its exit code and log as long as its Job exists.
        if not request.force and (_stops_in_time(pod, request.grace) or (ended and not request.delete_job)):
            return
        grace = 0 if request.force else request.grace
        if grace and not _stops_in_time(pod, None):
            grace = min(grace, (pod.get("spec") or {}).get("terminationGracePeriodSeconds", grace))
        where = path("v1", "pods", metadata["namespace"], metadata["name"])
        try:
            async with few:
                await self._kube.delete(where, uid=metadata["uid"], grace=grace)
        except KubeError as error:
            if error.status != 409:  # another pod has that name by now
                raise

    @activity.defn(name=READ_PROGRESS.name)
    async def read_progress(self, request: ReadProgress) -> ProgressReading:
        """Read the progress that the training reported last."""
        return (await self._read_progress([request.ref], request.log_pattern))[0]

    async def _read_progress(
        self, refs: list[ReplicaRef], log_pattern: str, *, of_all_members: bool = False
    ) -> list[ProgressReading]:
        try:
            expression = compile_pattern(log_pattern)
        except ValueError as error:
            raise ApplicationError(str(error), type=errors.INVALID, non_retryable=True) from error
        return list(
            await asyncio.gather(*(self._read_one(ref, expression, of_all_members=of_all_members) for ref in refs))
        )

    async def _read_one(self, ref: ReplicaRef, expression: Expression, *, of_all_members: bool) -> ProgressReading:
        readable, pods = False, await pods_of(self._kube, ref)
        if of_all_members and len(pods) > 1:
            return await self._read_members(ref, pods, expression)
        for pod in pods:
            progress, has_log = await reported_progress(self._kube, pod, expression)
            if progress is not None:
                return ProgressReading(progress=progress)
            readable = readable or has_log
        return ProgressReading(progress=None, readable=readable)

    async def _read_members(self, ref: ReplicaRef, pods: list[Json], expression: Expression) -> ProgressReading:
        """Read the progress of all members of a gang, a few logs at a time. Nodes that do not answer are left out."""
        found: dict[int, float] = {}
        readable, few = False, asyncio.Semaphore(LOGS_AT_ONCE)

        async def read(pod: Json) -> None:
            nonlocal readable
            async with few:
                progress, has_log = await reported_progress(self._kube, pod, expression)
            readable = readable or has_log
            if progress is not None:
                found[member_of(pod, ref)] = progress

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MEMBERS_SECONDS), asyncio.TaskGroup() as group:
                for pod in pods:
                    group.create_task(read(pod))
        members = dict(sorted(found.items()))
        return ProgressReading(progress=next(iter(members.values()), None), readable=readable, members=members)


def _stops_in_time(pod: Json, grace: int | None) -> bool:
    """True if the pod is being deleted, with no more seconds than ``grace`` allows."""
    metadata = pod["metadata"]
    if "deletionTimestamp" not in metadata:
        return False
    return grace is None or int(metadata.get("deletionGracePeriodSeconds") or 0) <= grace


def _late(view: ReplicaView, members: int) -> PodView | None:
    """Find the pod for which a start waits, one that says why before others; None if it was not made yet."""
    if len(view.pods) < members:
        return None
    return min(view.pods.values(), key=lambda pod: (pod.waiting_reason is None, pod.started_at is not None))


def _job_name(ref: ReplicaRef) -> str:
    return names.replica_job_name(ref.job.name, ref.job.job_id, ref.replica, ref.incarnation)
