"""What `deploy/training/outlast_checkpoint.py` publishes is what the activity finds, and gives back again."""

import asyncio
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from activities.storage.bucket import SecretBuckets
from activities.storage.finding import furthest_complete
from api.spot_instance_job import CheckpointStorage
from sandbox.object_store import ObjectStore
from tests.activities.world import loopback_gate

HELPER = Path(__file__).parents[2] / "deploy" / "training" / "outlast_checkpoint.py"


@pytest.fixture
def helper(tmp_path: Path, store: ObjectStore) -> ModuleType:
    spec = importlib.util.spec_from_file_location("outlast_checkpoint", HELPER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    identity = tmp_path / "etc"
    identity.mkdir()
    module.IDENTITY = identity  # type: ignore[attr-defined]
    tell(module, storageType="gcs", storageBucket="checkpoints", storagePrefix="job/checkpoints/r0-i0")
    tell(module, storageEndpoint=store.url, storageRegion="", restoredFrom="")
    return module


def tell(helper: ModuleType, **files: str) -> None:
    for name, content in files.items():
        (helper.IDENTITY / name).write_text(content)


def model(directory: Path, content: str) -> Path:
    (directory / "shards").mkdir(parents=True, exist_ok=True)
    (directory / "state.pt").write_text(content)
    (directory / "shards" / "optimizer 0.pt").write_text(content * 2)
    return directory


async def found(store: ObjectStore) -> tuple[str | None, float, list[str]]:
    where = CheckpointStorage(type="gcs", bucket="checkpoints", endpoint=store.url)
    bucket = await SecretBuckets(None, loopback_gate()).open(where, None, "team")  # type: ignore[arg-type]
    judged = await furthest_complete(bucket, "job/checkpoints")
    return judged.path, judged.progress, judged.passed_over


async def test_what_is_published_is_found_and_restored(helper: ModuleType, store: ObjectStore, tmp_path: Path) -> None:
    assert helper.restore(tmp_path / "none") is None
    for step in (100, 200):
        path = await asyncio.to_thread(helper.publish, model(tmp_path / "a", f"step {step}"), step)
    assert await found(store) == (path, 200, [])

    tell(helper, restoredFrom=path, storagePrefix="job/checkpoints/r0-i1")
    assert await asyncio.to_thread(helper.restore, tmp_path / "b") == 200
    assert (tmp_path / "b" / "state.pt").read_text() == "step 200"
    assert (tmp_path / "b" / "shards" / "optimizer 0.pt").read_text() == "step 200step 200"


async def test_what_is_cut_short_is_not_found(helper: ModuleType, store: ObjectStore, tmp_path: Path) -> None:
    first = await asyncio.to_thread(helper.publish, model(tmp_path / "a", "x"), 1)

    def fails_on_the_manifest(file: str, key: str) -> None:
        if key.endswith("outlast.json"):
            raise OSError("the machine is gone")
        helper._client(helper.where()).put(file, key)

    with pytest.raises(OSError, match="the machine is gone"):
        await asyncio.to_thread(helper.publish, model(tmp_path / "a", "y"), 2, fails_on_the_manifest)
    path, progress, passed_over = await found(store)
    assert (path, progress) == (first, 1)
    assert passed_over


async def test_a_file_that_lost_its_end_is_not_taken(helper: ModuleType, store: ObjectStore, tmp_path: Path) -> None:
    path = await asyncio.to_thread(helper.publish, model(tmp_path / "a", "whole"), 1)
    objects = store.buckets["checkpoints"]
    objects[f"{path}/state.pt"] = objects[f"{path}/outlast.json"]
    tell(helper, restoredFrom=path)
    with pytest.raises(OSError, match=r"state.pt has \d+ bytes instead of 5"):
        await asyncio.to_thread(helper.restore, tmp_path / "b")


async def test_the_first_checkpoint_has_a_directory_to_be_written_into(helper: ModuleType, tmp_path: Path) -> None:
    tell(helper, storageType="gcs", storageBucket="b", storagePrefix="p", restoredFrom="")
    assert helper.restore(tmp_path / "new" / "ckpt") is None
    (tmp_path / "new" / "ckpt" / "state.pt").touch()


async def test_without_a_bucket_nothing_happens(helper: ModuleType, store: ObjectStore, tmp_path: Path) -> None:
    tell(helper, storageBucket="")
    assert helper.where() is None
    assert helper.publish(model(tmp_path / "a", "x"), 1) is None
    assert store.buckets["checkpoints"] == {}


async def test_other_services_need_the_trainings_own_client(helper: ModuleType, tmp_path: Path) -> None:
    tell(helper, storageType="s3")
    with pytest.raises(OSError, match="put and get"):
        helper.publish(model(tmp_path / "a", "x"), 1)
    uploaded: list[str] = []
    path = helper.publish(tmp_path / "a", 1, put=lambda file, key: uploaded.append(key))
    assert uploaded[-1] == f"{path}/outlast.json"
    assert len(uploaded) == 3
