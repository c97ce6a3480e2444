"""Buckets of GCS and S3 through the real client, over a real HTTP server that speaks what both have in common."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.cloud_errors import Invalid, Missing, Permission, Transient
from activities.join.ssh import Unreachable
from activities.signatures import FindStored, FoundStored, JobRef, PreflightRequest
from activities.storage import StoredObject
from activities.storage.activities import StorageActivities
from activities.storage.bucket import Bucket, SecretBuckets
from activities.storage.preflight import check_storage
from api.common import SecretReference
from api.spot_instance_job import CheckpointStorage, SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec
from clients.kube import Json
from sandbox import object_store
from sandbox.object_store import ObjectStore
from tests.activities.world import JOB_ID, VM, loopback_gate, run, training

JOB = JobRef(namespace="team", name="resnet", uid="u-1", job_id=JOB_ID)
CHECKPOINTS = f"team/{JOB_ID}/checkpoints"


class Secrets:
    """An API server with nothing but one Secret of the job's namespace."""

    def __init__(self, **entries: str) -> None:
        self.entries = entries

    async def shared(self, path: str) -> Json | None:
        if not self.entries or path != f"/api/v1/namespaces/{JOB.namespace}/secrets/keys":
            return None
        return {"data": {name: base64.b64encode(value.encode()).decode() for name, value in self.entries.items()}}


def storage(store: ObjectStore, kind: str = "gcs", **more: Any) -> CheckpointStorage:
    return CheckpointStorage(type=kind, bucket="checkpoints", path_prefix="/team/", endpoint=store.url, **more)


async def opened(where: CheckpointStorage, **entries: str) -> Bucket:
    return await SecretBuckets(Secrets(**entries), loopback_gate()).open(where, None, JOB.namespace)  # type: ignore[arg-type]


def put(store: ObjectStore, key: str, body: bytes = b"x") -> None:
    store.buckets["checkpoints"][key] = object_store.StoredObject(body, datetime.now(UTC))


def publish(store: ObjectStore, path: str, progress: float, **sizes: int) -> None:
    """Publish a checkpoint whose files have these sizes, and are said to have them."""
    for name, size in sizes.items():
        put(store, f"{path}/{name}", b"x" * size)
    put(store, f"{path}/outlast.json", json.dumps({"progress": progress, "files": sizes}).encode())


async def parts(*contents: bytes) -> AsyncIterator[bytes]:
    for content in contents:
        yield content


async def find(store: ObjectStore, **more: Any) -> FoundStored:
    request = FindStored(job=JOB, storage=storage(store), **more)
    return await run(StorageActivities(SecretBuckets(Secrets(), loopback_gate())).find_stored, request)  # type: ignore[arg-type]


# --- the bucket


@pytest.mark.parametrize("kind", ["gcs", "s3"])
async def test_what_is_put_is_listed_and_read(store: ObjectStore, kind: str) -> None:
    bucket = await opened(storage(store, kind))
    await bucket.put("a/b c/x=1.pt", parts(b"weights" * 500, b"weights" * 500))
    assert await bucket.list("a") == [StoredObject("a/b c/x=1.pt", 7000)]
    assert await bucket.get("a/b c/x=1.pt", 10) == b"weightswei"
    assert await bucket.get("a/none", 10) == b""


@pytest.mark.parametrize("kind", ["gcs", "s3"])
async def test_a_large_object_goes_up_in_parts(store: ObjectStore, kind: str) -> None:
    bucket = await opened(storage(store, kind))
    await bucket.put("large", parts(*[b"%05d" % number * 2**18 for number in range(10)]))
    assert store.buckets["checkpoints"]["large"].body == b"".join(b"%05d" % number * 2**18 for number in range(10))


@pytest.mark.parametrize("size", [10, 6 * 2**20])
async def test_what_ends_before_its_end_is_no_object(store: ObjectStore, size: int) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * size
        raise Unreachable("the machine went away")

    with pytest.raises(Unreachable):
        await (await opened(storage(store))).put("half", broken())
    assert store.buckets["checkpoints"] == {}


@pytest.mark.parametrize("kind", ["gcs", "s3"])
async def test_a_list_of_several_pages_is_read_to_its_end(store: ObjectStore, kind: str) -> None:
    for number in range(2100):
        put(store, f"many/{number:05}")
    put(store, "many-others/1")
    assert len(await (await opened(storage(store, kind))).list("many")) == 2100


@pytest.mark.parametrize("kind", ["gcs", "s3"])
async def test_what_a_bucket_refuses_is_typed(store: ObjectStore, kind: str) -> None:
    with pytest.raises(Missing, match="bucket none: it does not exist"):
        await (await opened(storage(store, kind).model_copy(update={"bucket": "none"}))).list("a")
    store.refused.add("checkpoints")
    with pytest.raises(Permission, match="grant these credentials the right"):
        await (await opened(storage(store, kind))).list("a")
    await store.stop()
    with pytest.raises(Transient):
        await (await opened(storage(store, kind))).list("a")


async def test_keys_of_a_secret_sign_what_is_asked_of_s3(store: ObjectStore) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret-of-the-test"}
    bucket = await opened(storage(store, "s3", credentials_secret_ref={"name": "keys"}, region="eu-west-1"), **keys)
    assert await bucket.list("a") == []
    (authorization,) = store.authorizations
    assert authorization.startswith("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/")
    assert "/eu-west-1/s3/" in authorization
    assert "secret-of-the-test" not in authorization


async def test_no_identity_is_shown_to_an_endpoint_unless_by_its_own_secret(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "worker")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "worker")
    for kind in ("gcs", "s3"):
        buckets = SecretBuckets(Secrets(**{"credentials.json": "{}"}), loopback_gate())  # type: ignore[arg-type]
        bucket = await buckets.open(storage(store, kind), SecretReference(name="keys"), JOB.namespace)
        assert await bucket.list("a") == []
    assert store.authorizations == []


@pytest.mark.parametrize(
    ("kind", "entries", "error", "message"),
    [
        ("gcs", {}, Missing, "keys does not exist"),
        ("gcs", {"other": "x"}, Missing, "lacks the key credentials.json"),
        ("gcs", {"credentials.json": "hunter2"}, Invalid, "must contain a service account's key"),
        ("s3", {"AWS_ACCESS_KEY_ID": "x"}, Missing, "lacks the key AWS_SECRET_ACCESS_KEY"),
        ("azure", {"AZURE_STORAGE_ACCOUNT_KEY": "x"}, Missing, "lacks the key AZURE_STORAGE_ACCOUNT_NAME"),
        ("ftp", {"x": "y"}, Invalid, "none of gcs, s3, azure"),
    ],
)
async def test_a_secret_that_does_not_serve_is_named_and_not_quoted(
    store: ObjectStore, kind: str, entries: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        await opened(storage(store, kind, credentials_secret_ref={"name": "keys"}), **entries)
    assert "hunter2" not in str(raised.value)


# --- which checkpoint


async def test_the_furthest_complete_one_is_found(store: ObjectStore) -> None:
    publish(store, f"{CHECKPOINTS}/r0-i0/step-100", 100, model=10)
    publish(store, f"{CHECKPOINTS}/r1-i2/step-300", 300, model=10, optimizer=20)
    publish(store, f"{CHECKPOINTS}/r0-i1/step-200", 200, model=10)
    publish(store, "team/ffffffff/checkpoints/r0-i0/step-900", 900, model=1)  # another job's
    found = await find(store)
    assert found.point is not None
    assert (found.point.kind, found.point.path) == ("Storage", f"{CHECKPOINTS}/r1-i2/step-300")
    assert (found.point.progress, found.point.reported, found.point.lineage) == (300, True, "1.2")
    assert found.passed_over == []


async def test_incomplete_ones_are_passed_over_and_told(store: ObjectStore) -> None:
    publish(store, f"{CHECKPOINTS}/r0-i0/step-1", 1, model=10)
    publish(store, f"{CHECKPOINTS}/r0-i0/step-2", 2, model=10)
    put(store, f"{CHECKPOINTS}/r0-i0/step-2/model", b"short")
    publish(store, f"{CHECKPOINTS}/r0-i0/step-3", 3, model=10)
    del store.buckets["checkpoints"][f"{CHECKPOINTS}/r0-i0/step-3/model"]
    put(store, f"{CHECKPOINTS}/r0-i0/step-4/model")
    publish(store, f"{CHECKPOINTS}/r0-i0/step-5", 5, model=10)
    put(store, f"{CHECKPOINTS}/r0-i0/step-5/outlast.json", b'{"progress": 5, "fi')
    found = await find(store)
    assert found.point is not None
    assert found.point.progress == 1
    told = {each.rpartition("/")[2] for each in found.passed_over}
    assert told == {
        "step-2: model has 5 bytes instead of 10",
        "step-3: model is missing",
        "step-5: its outlast.json cannot be read",
        "step-4: it has no outlast.json",
    }


async def test_files_in_directories_below_the_manifest_belong_to_it(store: ObjectStore) -> None:
    path = f"{CHECKPOINTS}/r0-i0/step-1"
    put(store, f"{path}/shards/0/model", b"xx")
    put(store, f"{path}/outlast.json", b'{"progress": 1, "files": {"shards/0/model": 2}}')
    found = await find(store)
    assert found.point is not None
    assert found.passed_over == []


async def test_those_that_did_not_start_are_avoided(store: ObjectStore) -> None:
    publish(store, f"{CHECKPOINTS}/r0-i0/step-1", 1, model=1)
    publish(store, f"{CHECKPOINTS}/r0-i0/step-2", 2, model=1)
    found = await find(store, avoid=[f"{CHECKPOINTS}/r0-i0/step-2"])
    assert found.point is not None
    assert (found.point.progress, found.passed_over) == (1, [])


async def test_restore_from_is_looked_into_where_the_job_has_none(store: ObjectStore) -> None:
    publish(store, "old/run/step-7", 7, model=1)
    assert (await find(store)).point is None
    found = await find(store, restore_from="/old/run/")
    assert found.point is not None
    assert (found.point.path, found.point.lineage) == ("old/run/step-7", "")
    publish(store, f"{CHECKPOINTS}/r0-i0/step-1", 1, model=1)
    ours = await find(store, restore_from="old/run")
    assert ours.point is not None
    assert ours.point.progress == 1


async def test_refusals_reach_the_workflow_by_their_type(store: ObjectStore) -> None:
    store.refused.add("checkpoints")
    with pytest.raises(ApplicationError) as raised:
        await find(store)
    assert (raised.value.type, raised.value.non_retryable) == ("PermissionDenied", True)


# --- before money is spent


@pytest.mark.parametrize("state", ["there", "refused", "away"])
async def test_preflight_says_whether_the_bucket_can_be_read(store: ObjectStore, state: str) -> None:
    config = {"mode": "Application", "checkpointStorage": storage(store).model_dump(by_alias=True)}
    spec = {"jobTemplate": training(), "checkpointConfig": config, "spotInstanceVMRef": {"name": "spot"}}
    request = PreflightRequest(
        job=JOB,
        spec=SpotInstanceJobSpec.model_validate(spec),
        vm_spec=SpotInstanceVMSpec.model_validate(VM),
        candidates=[],
    )
    if state == "refused":
        store.refused.add("checkpoints")
    if state == "away":
        await store.stop()
    (condition,) = await check_storage(SecretBuckets(Secrets(), loopback_gate()), request)  # type: ignore[arg-type]
    expected = {
        "there": ("True", "Readable"),
        "refused": ("False", "PermissionDenied"),
        "away": ("Unknown", "Unreachable"),
    }
    assert (condition.status, condition.reason) == expected[state]
