"""Two SpotInstanceJobs have the same job id: one begins, the other says what helps."""

import asyncio
import functools
import itertools
import json
import uuid
from collections.abc import AsyncGenerator, Callable
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.service import RPCError

from activities.kubernetes.status import StatusActivities
from activities.signatures import JobRef, Report
from api import names
from api.common import Condition
from api.spot_instance_job import SpotInstanceJobStatus
from clients.kube import Kube, path
from crd_bridge import jobs
from crd_bridge.job_ids import JobIds, Known
from tests.bridge.recorder import eventually

ID = "00c0ffee"
QUIET = 1.5  # seconds in which something that must not happen would have happened
Json = dict[str, Any]


class Twins:
    """The jobs ``one`` and ``other`` of a test's namespace, which have the same id."""

    def __init__(self, kube: Kube, client: Client, namespace: str, manifest: Json) -> None:
        self.namespace = namespace
        self._kube = kube
        self._client = client
        self._manifest = manifest

    async def create(self, name: str, **metadata: Any) -> None:
        body = deepcopy(self._manifest)
        body["metadata"] = {"name": name, **metadata}
        await self._kube.create(path(names.API_VERSION, names.JOB_PLURAL, self.namespace), body)

    def path(self, name: str, sub: str | None = None) -> str:
        return path(names.API_VERSION, names.JOB_PLURAL, self.namespace, name, sub)

    async def find(self, name: str) -> Json | None:
        return await self._kube.find(self.path(name))

    async def begun(self) -> list[str]:
        """List those with a workflow."""
        return [name for name in ("one", "other") if await self._has_run(name)]

    async def _has_run(self, name: str) -> bool:
        try:
            await self._client.get_workflow_handle(f"{self.namespace}/{name}").describe()
        except RPCError:
            return False
        return True

    async def accepted(self, name: str) -> Json | None:
        """Return its condition Accepted."""
        told = ((await self.find(name)) or {}).get("status", {}).get("conditions", [])
        return next((each for each in told if each["type"] == "Accepted"), None)

    async def refused(self) -> str:
        """Wait until one of them is refused, and return its name."""

        async def look() -> str | None:
            told = {name: await self.accepted(name) for name in ("one", "other")}
            return next((name for name, each in told.items() if each and each["reason"] == "JobIdTaken"), None)

        return await eventually(look, "one of them is refused")

    async def end(self, name: str) -> None:
        """End the workflow, which has torn everything down, and remove the object."""
        await self._client.get_workflow_handle(f"{self.namespace}/{name}").signal("finish")
        await self._kube.patch(self.path(name), {"metadata": {"finalizers": None}})
        await self._kube.delete(self.path(name))

    async def write_status(self, name: str, status: Json) -> None:
        await self._kube.patch(self.path(name, "status"), {"status": status})


@pytest.fixture
def twins(cluster: Kube, client: Client, namespace: str, job: Json, monkeypatch: pytest.MonkeyPatch) -> Twins:
    monkeypatch.setattr(names, "job_id", lambda cluster_id, uid: ID)
    monkeypatch.setattr(jobs, "LOOK_AGAIN", 1.0)
    return Twins(cluster, client, namespace, job)


async def test_one_begins_and_the_other_says_what_helps(twins: Twins, bridge: Any, control_plane: Any) -> None:
    async with bridge():
        await twins.create("one")
        await eventually(twins.begun, "the first one begins")
        await twins.create("other")
        assert await twins.refused() == "other"
        await asyncio.sleep(QUIET)
    assert await twins.begun() == ["one"]
    told = await twins.accepted("other")
    assert told is not None
    assert (told["status"], told["observedGeneration"]) == ("False", 1)
    assert f"its job id {ID} is by chance also that of SpotInstanceJob one" in told["message"]
    assert "delete this SpotInstanceJob and create it again, which gives it another id" in told["message"]
    assert "finalizers" not in ((await twins.find("other")) or {})["metadata"]
    assert "Not accepted: its job id" in await control_plane.kubectl("get", "sij", "other", "-n", twins.namespace)


async def test_a_refusal_is_written_once(twins: Twins, bridge: Any) -> None:
    async with bridge():
        await twins.create("one")
        await eventually(twins.begun, "the first one begins")
        await twins.create("other")
        await twins.refused()
        before = await twins.find("other")
        await asyncio.sleep(2 * QUIET)
        assert await twins.find("other") == before


async def test_a_bridge_that_has_just_started_knows_who_began(twins: Twins, bridge: Any) -> None:
    async with bridge():
        await twins.create("other")
        await eventually(twins.begun, "the first one begins")
    await twins.create("one")
    for _ in range(2):
        async with bridge():
            assert await twins.refused() == "one"
            await asyncio.sleep(QUIET)
    assert await twins.begun() == ["other"]


async def test_none_begins_before_all_are_known(
    twins: Twins, bridge: Any, cluster: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that has begun may be on a later page of the list."""
    async with bridge():
        await twins.create("other")
        await eventually(twins.begun, "the first one begins")
    await twins.create("one")
    monkeypatch.setattr("clients.kube.PAGE", 1)
    pages = cluster.pages

    async def slow(where: str, **query: Any) -> AsyncGenerator[Any, None]:
        async for page in pages(where, **query):
            yield page
            if where.endswith(f"/{names.JOB_PLURAL}"):
                await asyncio.sleep(QUIET)

    monkeypatch.setattr(cluster, "pages", slow)
    async with bridge():
        assert await twins.refused() == "one"
    assert await twins.begun() == ["other"]


async def test_two_bridges_at_once_let_one_of_them_begin(twins: Twins, bridge: Any) -> None:
    async with bridge(), bridge():
        await asyncio.gather(twins.create("one"), twins.create("other"))
        refused = await twins.refused()
        await asyncio.sleep(2 * QUIET)
        begun = await twins.begun()
    assert len(begun) == 1
    assert refused not in begun


async def test_one_that_is_over_keeps_its_id_as_long_as_it_exists(twins: Twins, bridge: Any) -> None:
    await twins.create("one")
    condition = {"type": "Completed", "status": "True", "reason": "TrainingDone"}
    await twins.write_status("one", {"conditions": [condition]})
    await twins.create("other")
    async with bridge():
        assert await twins.refused() == "other"
    assert await twins.begun() == []


async def test_it_begins_once_the_other_one_is_gone(twins: Twins, bridge: Any, cluster: Kube) -> None:
    async with bridge():
        await twins.create("one")
        await eventually(twins.begun, "the first one begins")
        await twins.create("other")
        await twins.refused()
        await twins.end("one")

        async def begins() -> bool:
            return "other" in await twins.begun()

        await eventually(begins, "the other one begins")
    # From then on its status is the workflow's.
    uid = ((await twins.find("other")) or {})["metadata"]["uid"]
    accepted = Condition(type="Accepted", status="True", reason="SpecIsValid", last_transition_time=datetime.now(UTC))
    job = JobRef(namespace=twins.namespace, name="other", uid=uid, job_id=ID)
    await StatusActivities(cluster).report(Report(job=job, status=SpotInstanceJobStatus(conditions=[accepted])))
    told = await twins.accepted("other")
    assert told is not None
    assert (told["status"], told["reason"], told.get("message", "")) == ("True", "SpecIsValid", "")


async def test_one_that_is_refused_can_be_deleted(twins: Twins, bridge: Any, cluster: Kube) -> None:
    async with bridge():
        await twins.create("one")
        await eventually(twins.begun, "the first one begins")
        await twins.create("other")
        await twins.refused()
        await cluster.delete(twins.path("other"))
        assert await twins.find("other") is None
        await asyncio.sleep(QUIET)
    assert await twins.begun() == ["one"]


async def test_no_teardown_is_begun_for_one_that_is_refused(twins: Twins, bridge: Any, cluster: Kube) -> None:
    """Whoever adds our finalizer by hand must not get the other one's machines torn down."""
    async with bridge():
        await twins.create("one")
        await eventually(twins.begun, "the first one begins")
        await twins.create("other", finalizers=[names.FINALIZER])
        await twins.refused()
        await cluster.delete(twins.path("other"))

        async def says_how() -> bool:
            told = await twins.accepted("other")
            return told is not None and f"remove the finalizer {names.FINALIZER}" in told["message"]

        await eventually(says_how, "it says which finalizer is in the way")
        await asyncio.sleep(QUIET)
    assert await twins.begun() == ["one"]


async def test_another_namespaces_job_is_not_named(cluster: Kube, namespace: str, job: Json) -> None:
    await cluster.create(path(names.API_VERSION, names.JOB_PLURAL, namespace), job)
    found = await cluster.get(path(names.API_VERSION, names.JOB_PLURAL, namespace, "train"))
    mine, other = Known(namespace, "train", found["metadata"]["uid"]), Known("secret-team", "secret-train", "u")
    await JobIds(cluster, "c").refuse(mine, other)
    said = json.dumps((await cluster.get(mine.path))["status"])
    assert "that of a job in another namespace" in said
    assert "secret" not in said


# --- who goes first, with UIDs whose ids really are the same


class Store(Kube):
    """What is stored under some paths."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}

    async def find(self, path: str) -> Json | None:
        await asyncio.sleep(0)
        return self.objects.get(path)


@functools.cache
def colliding() -> tuple[str, str]:
    """Find two UIDs with the same id: among a hundred thousand there is nearly always a pair."""
    seen: dict[str, str] = {}
    for number in itertools.count():
        uid = str(uuid.UUID(int=number))
        other = seen.setdefault(names.job_id("cluster", uid), uid)
        if other != uid:
            return other, uid
    raise AssertionError


@pytest.fixture
def store() -> Store:
    return Store()


def stored(store: Store, ids: JobIds, number: int, created: str = "2026-01-01T00:00:00Z", **more: Any) -> Known:
    job = Known("team", f"job-{number}", colliding()[number])
    metadata = {"name": job.name, "namespace": job.namespace, "uid": job.uid, "creationTimestamp": created}
    metadata["finalizers"] = [names.FINALIZER] if more.pop("begun", False) else []
    store.objects[job.path] = {"metadata": metadata, **more}
    ids.add(job)
    return job


Prepare = Callable[[Store, JobIds], tuple[Known, Known]]
OVER = {"conditions": [{"type": "Failed", "status": "True"}]}
FIRST: dict[str, Prepare] = {
    "the older": lambda store, ids: (
        stored(store, ids, 1),
        stored(store, ids, 0, created="2026-01-01T00:00:01Z"),
    ),
    "of two made in one second always the same": lambda store, ids: (stored(store, ids, 0), stored(store, ids, 1)),
    "who has begun": lambda store, ids: (
        stored(store, ids, 1, created="2026-02-02T00:00:00Z", begun=True),
        stored(store, ids, 0),
    ),
    "who is over": lambda store, ids: (
        stored(store, ids, 1, created="2026-02-02T00:00:00Z", status=OVER),
        stored(store, ids, 0),
    ),
}


@pytest.mark.parametrize("who", FIRST)
async def test_who_goes_first(store: Store, who: str) -> None:
    for order in ((0, 1), (1, 0)):
        ids = JobIds(store, "cluster")
        both = FIRST[who](store, ids)
        taken = {index: await ids.taken_by(both[index]) for index in order}
        again = {index: await ids.taken_by(both[index]) for index in order}
        assert taken == again == {0: None, 1: both[0]}


async def test_of_two_that_ask_at_once_one_begins(store: Store) -> None:
    ids = JobIds(store, "cluster")
    one, other = stored(store, ids, 0), stored(store, ids, 1)
    assert await asyncio.gather(ids.taken_by(other), ids.taken_by(one)) == [one, None]


async def test_who_was_let_begin_before_the_older_one_was_seen_goes_first(store: Store) -> None:
    """Its finalizer is about to be written, and nobody can read it yet."""
    ids = JobIds(store, "cluster")
    younger = stored(store, ids, 0, created="2026-01-01T00:00:01Z")
    assert await ids.taken_by(younger) is None
    assert await ids.taken_by(stored(store, ids, 1)) == younger


async def test_an_id_is_free_once_its_job_is_gone(store: Store) -> None:
    ids = JobIds(store, "cluster")
    one, other = stored(store, ids, 0, begun=True), stored(store, ids, 1)
    assert await ids.taken_by(other) == one
    del store.objects[one.path]
    ids.remove(one.uid)
    assert await ids.taken_by(other) is None


async def test_a_job_of_the_same_name_made_later_is_another(store: Store) -> None:
    ids = JobIds(store, "cluster")
    one, other = stored(store, ids, 0, begun=True), stored(store, ids, 1)
    store.objects[one.path]["metadata"]["uid"] = "made-later"
    assert await ids.taken_by(other) is None


async def test_ids_that_differ_cost_no_read(store: Store) -> None:
    ids = JobIds(store, "cluster")
    jobs_ = [Known("team", f"job-{number}", str(uuid.uuid4())) for number in range(100)]
    for job in jobs_:
        ids.add(job)
    store.objects = None  # type: ignore[assignment]
    assert [await ids.taken_by(job) for job in jobs_] == [None] * 100
    for job in jobs_:
        ids.remove(job.uid)
    assert (ids._known, ids._owners) == ({}, {})
