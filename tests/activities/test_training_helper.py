"""What `deploy/training/outlast_checkpoint.py` publishes is what the activity finds and restores."""

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


# --- of several processes


async def shards(helper: ModuleType, directory: Path, step: int, world: int, **more: object) -> str:
    """Publish the parts of all processes, one after the other."""
    for rank in range(world):
        part = directory / str(rank)
        part.mkdir(parents=True, exist_ok=True)
        (part / f"state-{rank}.pt").write_text(f"{rank} at {step}")
        path = await asyncio.to_thread(helper.publish_shard, part, step, rank, world, **more)
    assert isinstance(path, str)
    return path


async def test_what_all_have_published_is_found_and_restored(
    helper: ModuleType, store: ObjectStore, tmp_path: Path
) -> None:
    path = await shards(helper, tmp_path / "a", 300, 3)
    assert path == "job/checkpoints/r0-i0/000000000300"
    assert await found(store) == (path, 300, [])
    tell(helper, restoredFrom=path)
    assert await asyncio.to_thread(helper.restore_shard, tmp_path / "one", 1, 3) == 300
    assert [file.name for file in (tmp_path / "one").iterdir()] == ["state-1.pt"]
    assert await asyncio.to_thread(helper.restore, tmp_path / "all") == 300
    assert sorted(file.name for file in (tmp_path / "all").iterdir()) == ["state-0.pt", "state-1.pt", "state-2.pt"]


async def test_of_two_numbers_of_processes_the_complete_one_is_restored(
    helper: ModuleType, store: ObjectStore, tmp_path: Path
) -> None:
    path = await shards(helper, tmp_path / "a", 7, 2)
    await shards(helper, tmp_path / "b", 7, 4)
    objects = store.buckets["checkpoints"]
    tell(helper, restoredFrom=path)
    for world in (2, 4):
        assert await asyncio.to_thread(helper.restore_shard, tmp_path / f"of-{world}", 1, world) == 7
        assert [file.name for file in (tmp_path / f"of-{world}").iterdir()] == ["state-1.pt"]
    del objects[f"{path}/outlast-3-of-4.json"]
    assert await asyncio.to_thread(helper.restore_shard, tmp_path / "c", 3, 4) == 7
    assert sorted(file.name for file in (tmp_path / "c").iterdir()) == ["state-0.pt", "state-1.pt"]
    del objects[f"{path}/state-1.pt"]
    with pytest.raises(OSError, match="is no complete checkpoint"):
        await asyncio.to_thread(helper.restore_shard, tmp_path / "d", 0, 2)


async def test_what_one_process_published_is_restored_by_each_of_several(helper: ModuleType, tmp_path: Path) -> None:
    path = await asyncio.to_thread(helper.publish, model(tmp_path / "a", "whole"), 5)
    tell(helper, restoredFrom=path)
    for rank in range(2):
        assert await asyncio.to_thread(helper.restore_shard, tmp_path / "b" / str(rank), rank, 2) == 5
        assert (tmp_path / "b" / str(rank) / "state.pt").read_text() == "whole"


async def test_what_others_wrote_is_not_published_again(helper: ModuleType, store: ObjectStore, tmp_path: Path) -> None:
    path = await shards(helper, tmp_path / "a", 1, 3)
    tell(helper, restoredFrom=path)
    for rank in range(2):
        assert await asyncio.to_thread(helper.restore_shard, tmp_path / "b" / str(rank), rank, 2) == 1
    later = await shards(helper, tmp_path / "b", 2, 2)
    assert await found(store) == (later, 2, [])


async def test_processes_that_start_again_write_elsewhere(
    helper: ModuleType, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they write at the same progress mixes with nothing that was there, however far they get."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "6f1c")
    for start in ("0", "1"):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", start)
        path = await shards(helper, tmp_path / start, 4, 2)
    assert path == "job/checkpoints/r0-i0/000000000004-1"
    objects = store.buckets["checkpoints"]
    assert b'"run": "6f1c/1"' in objects.pop(f"{path}/outlast-1-of-2.json").body
    assert await found(store) == ("job/checkpoints/r0-i0/000000000004", 4, [f"{path}: outlast-1-of-2.json is missing"])


async def test_processes_may_share_a_directory(helper: ModuleType, store: ObjectStore, tmp_path: Path) -> None:
    for name in ("model.pt", "rng-0.pt", "rng-1.pt"):
        (tmp_path / name).write_text(name)
    for rank, files in enumerate([["model.pt", "rng-0.pt"], ["rng-1.pt"]]):
        path = await asyncio.to_thread(helper.publish_shard, tmp_path, 4, rank, 2, files)
    assert await found(store) == (path, 4, [])
    assert len(store.buckets["checkpoints"]) == 5


async def test_own_clients_list_the_bucket_for_several_processes(helper: ModuleType, tmp_path: Path) -> None:
    objects: dict[str, bytes] = {}

    def put(file: str, key: str) -> None:
        objects[key] = Path(file).read_bytes()

    def get(key: str, file: str) -> None:
        Path(file).write_bytes(objects[key])

    def sizes(prefix: str) -> dict[str, int]:
        return {key: len(body) for key, body in objects.items() if key.startswith(prefix)}

    tell(helper, storageType="s3")
    tell(helper, restoredFrom=await shards(helper, tmp_path / "a", 8, 2, put=put))
    assert helper.restore_shard(tmp_path / "b", 1, 2, get=get, sizes=sizes) == 8
    assert (tmp_path / "b" / "state-1.pt").read_text() == "1 at 8"
    tell(helper, restoredFrom=helper.publish(model(tmp_path / "c", "x"), 9, put=put))
    assert helper.restore_shard(tmp_path / "d", 1, 2, get=get, sizes=sizes) == 9
    assert helper.restore(tmp_path / "e", get=get) == 9


async def test_long_lists_are_read_to_their_end(helper: ModuleType, store: ObjectStore, tmp_path: Path) -> None:
    path = await shards(helper, tmp_path / "a", 1, 2)
    objects = store.buckets["checkpoints"]
    objects |= {f"{path}/a/{number:04}": objects[f"{path}/state-0.pt"] for number in range(1500)}
    sizes = await asyncio.to_thread(helper._client(helper.where()).sizes, f"{path}/")
    assert len(sizes) == 1504


@pytest.mark.parametrize(("rank", "world", "progress"), [(3, 3, 1), (-1, 3, 1), (0, 3, 0.5), (0, 3, -1)])
def test_what_makes_no_sense_is_refused(
    helper: ModuleType, tmp_path: Path, rank: int, world: int, progress: float
) -> None:
    with pytest.raises(ValueError, match="ranks begin at 0"):
        helper.publish_shard(tmp_path, progress, rank, world)


def test_what_does_not_fit_its_own_machines_is_refused(
    helper: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    with pytest.raises(ValueError, match="counts machines, and this training runs on 1"):
        helper.publish_shard(tmp_path, 1, 0, 8, fits=[8])


def test_machines_are_counted_by_the_members_of_a_gang(
    helper: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(helper, member="2", size="4")
    assert helper._who() == (2, 4)
    with pytest.raises(ValueError, match="counts machines, and this training runs on 4"):
        helper.publish_shard(tmp_path, 1, fits=[2])
    monkeypatch.setenv("RANK", "17")
    monkeypatch.setenv("WORLD_SIZE", "32")
    assert helper._who() == (17, 32)


def test_alone_nobody_has_to_agree(helper: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert helper.agreed(True) is True
    assert helper.agreed(False) is False
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="there are several machines"):
        helper.agreed(True)
