"""Many jobs that name one Secret and one SpotInstanceVM, at the same time, on a real API server.

Counted is what the worker asks of the API server, which does not depend on the machine.
"""

import asyncio
from collections import Counter

import pytest

from activities.documents.activities import SpecActivities
from activities.replicas.activities import ReplicaActivities
from activities.signatures import JobDocument, LoadJob, ReleaseFinalizers, ReplicaRef
from api import names
from api.common import SecretReference
from api.timings import Timings
from clients.kube import Kube, path
from tests.activities.world import LENT, World, eventually, run

JOBS = 100
FEW = 15
"""Writes of one object by a whole crowd: one job each would make hundreds of attempts."""


class Crowd:
    """Jobs of one namespace that share what they name."""

    def __init__(self, world: World, jobs: list[LoadJob], secret: str) -> None:
        self.world = world
        self.jobs = jobs
        self.shared = (secret, world.vm_path)

    async def protectors(self) -> list[set[str]]:
        """The jobs that protect each shared object, by its finalizers, its labels and its annotations."""
        found = []
        for where in self.shared:
            metadata = (await self.world.kube.get(where))["metadata"]
            for each in ("finalizers", "labels", "annotations"):
                found.append({job for key in metadata.get(each) or [] if (job := names.job_id_of(key))})
        return found

    async def load(self, worker: SpecActivities, jobs: list[LoadJob]) -> None:
        documents: list[JobDocument] = await asyncio.gather(*(run(worker.load_job, job) for job in jobs))
        assert [document.problems for document in documents] == [[]] * len(jobs)

    async def release(self, worker: SpecActivities, jobs: list[LoadJob]) -> None:
        secret = SecretReference(name="registry", namespace=self.world.job.namespace)
        requests = [ReleaseFinalizers(job=job, vm_name="spot", secrets=[secret]) for job in jobs]
        await asyncio.gather(*(run(worker.release_finalizers, request) for request in requests))


@pytest.fixture
async def crowd(world: World, kube: Kube) -> Crowd:
    secret = await world.secret("registry", username="a", password="b")
    spec = (await kube.get(world.job_path))["spec"]
    spec["checkpointConfig"] |= {"checkpointRepoCredentialRef": {"name": "registry"}}

    async def made(number: int) -> LoadJob:
        body = {"apiVersion": names.API_VERSION, "kind": "SpotInstanceJob", "spec": spec}
        body["metadata"] = {"name": f"job-{number}"}
        uid = (await kube.create(world.path(names.API_VERSION, names.JOB_PLURAL), body))["metadata"]["uid"]
        namespace = world.job.namespace
        return LoadJob(namespace=namespace, name=f"job-{number}", uid=uid, job_id=names.job_id("cluster", uid))

    return Crowd(world, list(await asyncio.gather(*(made(number) for number in range(JOBS)))), secret)


def worker(kube: Kube) -> SpecActivities:
    """The activities of one worker process."""
    return SpecActivities(kube, Timings(), grants=LENT)


async def test_a_crowd_protects_what_it_shares_by_a_handful_of_writes(
    crowd: Crowd, kube: Kube, asked: Counter[tuple[str, str]]
) -> None:
    one = worker(kube)
    await crowd.load(one, crowd.jobs)
    everybody = {job.job_id for job in crowd.jobs}
    assert await crowd.protectors() == [everybody] * 6
    assert all(asked["PATCH", where] <= FEW for where in crowd.shared), asked
    assert all(asked["GET", where] <= 2 * FEW for where in crowd.shared), asked
    asked.clear()
    await crowd.release(one, crowd.jobs)
    assert await crowd.protectors() == [set()] * 6
    assert all(asked["PATCH", where] <= FEW for where in crowd.shared), asked


async def test_two_workers_contend_without_a_failed_attempt(
    crowd: Crowd, kube: Kube, asked: Counter[tuple[str, str]]
) -> None:
    one, other = worker(kube), worker(kube)
    await asyncio.gather(crowd.load(one, crowd.jobs[::2]), crowd.load(other, crowd.jobs[1::2]))
    assert await crowd.protectors() == [{job.job_id for job in crowd.jobs}] * 6
    assert all(asked["PATCH", where] <= 2 * FEW for where in crowd.shared), asked


async def test_who_is_released_takes_nobody_else_along(crowd: Crowd, kube: Kube) -> None:
    """Some jobs end while others begin, in two workers, and some releases are broken off on the way."""
    one, other = worker(kube), worker(kube)
    going, staying, coming = crowd.jobs[:40], crowd.jobs[40:70], crowd.jobs[70:]
    await crowd.load(one, [*going, *staying])
    broken = [asyncio.create_task(crowd.release(one, [job])) for job in going[:10]]
    await asyncio.sleep(0.01)
    for task in broken:
        task.cancel()
    await asyncio.gather(*broken, return_exceptions=True)
    await asyncio.gather(
        crowd.release(one, going[:20]), crowd.release(other, going[20:]), crowd.load(other, coming[:15]),
        crowd.load(one, coming[15:]),
    )  # fmt: skip
    assert await crowd.protectors() == [{job.job_id for job in [*staying, *coming]}] * 6


async def test_an_object_with_room_for_no_more_keeps_and_releases_whom_it_has(crowd: Crowd, kube: Kube) -> None:
    """Kubernetes allows 256 KiB of annotations: the last ones are refused, and everybody can still leave."""
    one, (first, *others) = worker(kube), crowd.jobs[:10]
    await crowd.load(one, [first])
    await kube.patch(crowd.shared[0], {"metadata": {"annotations": {"example.com/long": "x" * (256 * 1024 - 250)}}})
    documents: list[JobDocument] = await asyncio.gather(*(run(one.load_job, job) for job in others))
    refused = [problem for document in documents for problem in document.problems]
    assert 0 < len(refused) < len(others)
    assert {problem.reason for problem in refused} == {"SecretNotProtected"}
    assert "cannot be protected for one more job: Secret" in refused[0].message
    assert "Too long" in refused[0].message
    (secret, *_) = await crowd.protectors()
    assert len(secret) == 1 + len(others) - len(refused)
    await crowd.release(one, crowd.jobs[:10])
    assert await crowd.protectors() == [set()] * 6


async def test_a_secret_that_is_shared_with_the_namespace_is_read_as_rarely(
    crowd: Crowd, kube: Kube, namespace: str, asked: Counter[tuple[str, str]]
) -> None:
    other = f"{namespace}-shared"
    await kube.create("/api/v1/namespaces", {"metadata": {"name": other}})
    metadata = {"name": "registry", "annotations": {names.ANNOTATION_SHARED: namespace}}
    await kube.create(
        path("v1", "secrets", other), {"metadata": metadata, "stringData": {"username": "a", "password": "b"}}
    )
    reference = {"checkpointConfig": {"checkpointRepoCredentialRef": {"name": "registry", "namespace": other}}}
    for job in crowd.jobs:
        await kube.patch(path(names.API_VERSION, names.JOB_PLURAL, namespace, job.name), {"spec": reference})
    one = worker(kube)
    await crowd.load(one, crowd.jobs)
    where = path("v1", "secrets", other, "registry")
    assert asked["PATCH", where] <= FEW, asked
    assert asked["GET", where] <= 3 * FEW, asked
    await crowd.release(one, crowd.jobs)
    assert "finalizers" not in (await kube.get(where))["metadata"]


async def test_replicas_that_are_created_at_once_share_their_pull_secret(
    world: World, kube: Kube, asked: Counter[tuple[str, str]]
) -> None:
    login = await world.secret("registry", username="a", password="b")
    how = {"image_pull": SecretReference(name="registry"), "checkpoint_image_repo": "docker.io/u/repo"}
    replicas = ReplicaActivities(kube, world.job.namespace)
    requests = [world.create_replica(replica=number, **how) for number in range(FEW)]
    await asyncio.gather(*(run(replicas.create_replica, request) for request in requests))
    assert asked["GET", login] <= 3
    assert asked["PATCH", world.path("v1", "secrets", names.pull_secret_name("resnet", world.job.job_id))] <= 3
    assert asked["POST", world.path("batch/v1", "jobs")] == FEW


async def test_a_crowd_whose_pods_are_late_reads_the_events_of_a_namespace_together(
    world: World, kube: Kube, asked: Counter[tuple[str, str]]
) -> None:
    quota = {"metadata": {"name": "nothing"}, "spec": {"hard": {"pods": "0"}}}
    await kube.create(world.path("v1", "resourcequotas"), quota)
    replicas = ReplicaActivities(kube, world.job.namespace)
    refs = [ReplicaRef(job=world.job, replica=number, incarnation=1) for number in range(3 * FEW)]
    requests = [world.create_replica(replica=ref.replica) for ref in refs]
    await asyncio.gather(*(run(replicas.create_replica, request) for request in requests))
    lists = ("GET", world.path("events.k8s.io/v1", "events"))

    async def all_told() -> bool:
        asked[lists] = 0
        readings = await asyncio.gather(*(run(replicas.read_start, ref) for ref in refs))
        return {reading.reason for reading in readings} == {"FailedCreate"}

    await eventually("the quota is told to all", all_told)
    assert asked[lists] <= FEW
