"""Finding and pinning images in a real registry, and in one that asks for credentials."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.registry.activities import ImageActivities
from activities.signatures import DeletedImages, DeleteImages, FindImage, PinImages
from api import errors
from api.spot_instance_job import CheckpointConfig
from api.views import RestorePoint
from clients.kube import Kube
from sandbox.oci import CONFIG_TYPE, MANIFEST_TYPE, OciClient, RegistryError
from sandbox.registry import Registry
from tests.activities.guarded_registry import DIGEST, OTHER_DIGEST, PASSWORD, USER, guarded_registry
from tests.activities.world import JOB_ID, World, loopback_gate, run

OURS = f"{JOB_ID}-p{7:012d}-1700000100"
FURTHER = f"{JOB_ID}-p{9:012d}-1700000000"
OTHERS = f"ffffffff-p{99:012d}-1700000200"


class Repository:
    """A repository of its own in the real registry."""

    def __init__(self, host: str, name: str) -> None:
        self.host, self.name = host, name
        self.full = f"{host}/{name}"

    async def push(
        self, tag: str, created: str | None = None, annotation: str | None = None, **annotations: str
    ) -> str:
        """Push an image and return its digest. ``created`` goes into its config, ``annotation`` (its time) into its
        manifest.
        """
        async with OciClient(self.host, plain_http=True) as client:
            config = json.dumps({"created": created, "tag": tag}).encode()
            manifest: dict[str, Any] = {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": await client.push_blob(self.name, config, CONFIG_TYPE),
                "layers": [],
            }
            if annotation:
                annotations["org.opencontainers.image.created"] = annotation
            if annotations:
                manifest["annotations"] = annotations
            return await client.push_manifest(self.name, tag, manifest)


@pytest.fixture
def repository(registry: Registry, namespace: str) -> Repository:
    return Repository(registry.address, f"team/{namespace}")


@pytest.fixture
def images(kube: Kube) -> ImageActivities:
    return ImageActivities(kube, loopback_gate())


def find(world: World, repository: str, which: str, *containers: str, **config: Any) -> FindImage:
    return FindImage.model_validate(
        {
            "job": world.job,
            "config": CheckpointConfig.model_validate({"checkpointImageRepo": repository, **config}),
            "containers": containers or ["main"],
            "which": which,
        }
    )


async def found(images: ImageActivities, request: FindImage) -> RestorePoint:
    point = (await run(images.find_image, request)).point
    assert point is not None
    return point


@pytest.mark.parametrize("which", ["Ours", "LatestTag"])
async def test_repository_that_does_not_exist_holds_nothing(
    world: World, images: ImageActivities, repository: Repository, which: str
) -> None:
    assert (await run(images.find_image, find(world, repository.full, which))).point is None


async def test_our_image_with_the_most_progress_is_found_by_digest(
    world: World, images: ImageActivities, repository: Repository
) -> None:
    await repository.push(OURS)
    digest = await repository.push(FURTHER)
    await repository.push(OTHERS)
    await repository.push("latest")
    point = await found(images, find(world, repository.full, "Ours"))
    assert point.images == {"main": f"{repository.full}:{FURTHER}@{digest}"}
    assert (point.progress, point.created_at) == (9, datetime.fromtimestamp(1700000000, UTC))


@pytest.mark.parametrize(("progress", "seconds"), [(None, 9), ({"logPattern": r"step=(\\d+)"}, 0)])
async def test_a_figure_of_seconds_is_gone_on_with(
    world: World, images: ImageActivities, repository: Repository, progress: object, seconds: float
) -> None:
    await repository.push(FURTHER)
    point = await found(images, find(world, repository.full, "Ours", progress=progress))
    assert (point.progress, point.reported, point.seconds) == (9, progress is not None, seconds)


async def test_images_of_others_are_not_ours(world: World, images: ImageActivities, repository: Repository) -> None:
    await repository.push(OTHERS)
    assert (await run(images.find_image, find(world, repository.full, "Ours"))).point is None


async def test_pod_of_several_containers_needs_an_image_for_each(
    world: World, images: ImageActivities, repository: Repository
) -> None:
    one, two = await repository.push(f"{OURS}_a"), await repository.push(f"{OURS}_b")
    await repository.push(f"{FURTHER}_a")
    point = await found(images, find(world, repository.full, "Ours", "a", "b"))
    assert point.images == {
        "a": f"{repository.full}:{OURS}_a@{one}",
        "b": f"{repository.full}:{OURS}_b@{two}",
    }


async def test_tag_created_last_is_found_whatever_its_name(
    world: World, images: ImageActivities, repository: Repository
) -> None:
    await repository.push("zz-old", created="2026-01-01T00:00:00Z")
    newest = await repository.push("aa-new", created="2020-01-01T00:00:00Z", annotation="2026-03-01T00:00:00Z")
    await repository.push("mm-middle", created="2026-02-01T00:00:00.123456789Z")
    await repository.push("no-date")
    point = await found(images, find(world, repository.full, "LatestTag"))
    assert point.images == {"main": f"{repository.full}:aa-new@{newest}"}
    assert (point.created_at, point.progress) == (datetime(2026, 3, 1, tzinfo=UTC), 0)


async def test_image_of_restore_from_is_found_in_another_repository(
    world: World, images: ImageActivities, repository: Repository
) -> None:
    digest = await repository.push(OTHERS)
    request = find(world, "gcr.io/p/repo", "Image", restoreFrom=f"{repository.full}:{OTHERS}")
    point = await found(images, request)
    assert (point.images, point.progress) == ({"main": f"{repository.full}:{OTHERS}@{digest}"}, 99)


async def test_image_of_restore_from_by_digest(world: World, images: ImageActivities, repository: Repository) -> None:
    digest = await repository.push("t", created="2026-02-01T00:00:00Z")
    request = find(world, repository.full, "Image", restoreFrom=f"{repository.full}@{digest}")
    assert (await found(images, request)).images == {"main": f"{repository.full}@{digest}"}


async def test_image_of_restore_from_that_is_not_there_is_nothing(
    world: World, images: ImageActivities, repository: Repository
) -> None:
    request = find(world, repository.full, "Image", restoreFrom=f"{repository.full}:gone")
    assert (await run(images.find_image, request)).point is None


async def test_tag_is_pinned_to_its_digest(world: World, images: ImageActivities, repository: Repository) -> None:
    digest = await repository.push(OURS)
    point = RestorePoint(images={"main": f"{repository.full}:{OURS}"}, progress=7, created_at=datetime.now(UTC))
    config = CheckpointConfig(checkpoint_image_repo=repository.full)
    pinned = await run(images.pin_images, PinImages(job=world.job, config=config, point=point))
    again = await run(images.pin_images, PinImages(job=world.job, config=config, point=pinned))
    assert pinned.images == again.images == {"main": f"{repository.full}:{OURS}@{digest}"}


async def test_a_checkpoint_that_only_cri_o_would_know_is_made_one_for_containerd(
    world: World, images: ImageActivities, repository: Repository
) -> None:
    crio, containerd = "io.kubernetes.cri-o.annotations.checkpoint.name", "org.criu.checkpoint.container.name"
    one_sided = await repository.push(OURS, **{crio: "team/train"})
    point = RestorePoint(images={"main": f"{repository.full}:{OURS}"}, progress=7, created_at=datetime.now(UTC))
    request = PinImages(job=world.job, config=CheckpointConfig(checkpoint_image_repo=repository.full), point=point)
    pinned = await run(images.pin_images, request)
    assert await run(images.pin_images, request) == pinned, "and the next time it is what it was"
    async with OciClient(repository.host, plain_http=True) as client:
        manifest, digest = await client.manifest(repository.name, OURS)
        assert pinned.images == {"main": f"{repository.full}:{OURS}@{digest}"}
        assert manifest["annotations"] == {crio: "team/train", containerd: "main"}
        with pytest.raises(RegistryError, match="MANIFEST_UNKNOWN"):
            await client.manifest(repository.name, one_sided)


@pytest.mark.parametrize(("changed", "digest"), [(201, OTHER_DIGEST), (409, DIGEST), (403, DIGEST)])
async def test_a_tag_that_may_not_be_changed_is_pinned_as_it_is(
    world: World, images: ImageActivities, changed: int, digest: str
) -> None:
    await world.secret("registry", username=USER, password=PASSWORD)
    annotations = {"io.kubernetes.cri-o.annotations.checkpoint.name": "team/train"}
    async with guarded_registry(bearer=True, annotations=annotations, changed=changed) as guarded:
        image = f"{guarded.address}/p/repo:{OURS}"
        point = RestorePoint(images={"main": image}, progress=7, created_at=datetime.now(UTC))
        config = {
            "checkpointImageRepo": f"{guarded.address}/p/repo",
            "checkpointRepoCredentialRef": {"name": "registry"},
        }
        request = PinImages(job=world.job, config=CheckpointConfig.model_validate(config), point=point)
        assert (await run(images.pin_images, request)).images == {"main": f"{image}@{digest}"}
        assert guarded.deleted == ([DIGEST] if changed == 201 else [])


async def test_tag_that_is_gone_cannot_be_pinned(world: World, images: ImageActivities, repository: Repository) -> None:
    point = RestorePoint(images={"main": f"{repository.full}:{OURS}"}, progress=7, created_at=datetime.now(UTC))
    config = CheckpointConfig(checkpoint_image_repo=repository.full)
    with pytest.raises(ApplicationError, match="no longer in its registry") as caught:
        await run(images.pin_images, PinImages(job=world.job, config=config, point=point))
    assert caught.value.type == errors.MISSING


@pytest.mark.parametrize("bearer", [True, False])
async def test_tags_come_by_page_to_who_shows_credentials(world: World, images: ImageActivities, bearer: bool) -> None:
    await world.secret("registry", username=USER, password=PASSWORD)
    async with guarded_registry(bearer=bearer) as guarded:
        config = {"checkpointRepoCredentialRef": {"name": "registry"}}
        point = await found(images, find(world, f"{guarded.address}/p/repo", "LatestTag", **config))
        assert point.images == {"main": f"{guarded.address}/p/repo:b@{DIGEST}"}
        assert set(guarded.scopes) == ({"repository:p/repo:pull"} if bearer else set())


async def test_a_list_of_tags_without_end_is_given_up(
    world: World, images: ImageActivities, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fill the memory that the worker has for all teams."""
    monkeypatch.setattr("activities.registry.client.MOST_TAGS", 50)
    await world.secret("registry", username=USER, password=PASSWORD)
    config = {"checkpointRepoCredentialRef": {"name": "registry"}}
    async with guarded_registry(bearer=False, endless=True) as guarded:
        with pytest.raises(ConnectionError, match="lists more than 50 tags"):
            async with asyncio.timeout(20):
                await found(images, find(world, f"{guarded.address}/p/repo", "LatestTag", **config))


async def test_google_says_in_one_answer_what_was_uploaded_last(world: World, images: ImageActivities) -> None:
    await world.secret("registry", username=USER, password=PASSWORD)
    manifests = {
        "sha256:1": {"tag": ["old"], "timeUploadedMs": "1700000000000"},
        "sha256:2": {"tag": ["a-new"], "timeUploadedMs": 1800000000000},
        "sha256:3": {"tag": []},
    }
    async with guarded_registry(bearer=True, google=manifests) as guarded:
        config = {"checkpointRepoCredentialRef": {"name": "registry"}}
        point = await found(images, find(world, f"{guarded.address}/p/repo", "LatestTag", **config))
    assert point.images == {"main": f"{guarded.address}/p/repo:a-new@{DIGEST}"}
    assert point.created_at == datetime.fromtimestamp(1_800_000_000, UTC)


@pytest.mark.parametrize("bearer", [True, False])
async def test_who_shows_none_is_told_what_to_correct(world: World, images: ImageActivities, bearer: bool) -> None:
    async with guarded_registry(bearer=bearer) as guarded:
        with pytest.raises(ApplicationError, match="checkpointRepoCredentialRef") as caught:
            await run(images.find_image, find(world, f"{guarded.address}/p/repo", "Ours"))
    assert caught.value.type == errors.PERMISSION


async def test_wrong_password_is_told_without_it(world: World, images: ImageActivities) -> None:
    await world.secret("registry", username=USER, password="hunter2")
    async with guarded_registry(bearer=True) as guarded:
        config = {"checkpointRepoCredentialRef": {"name": "registry"}}
        with pytest.raises(ApplicationError, match=f"'{USER}'") as caught:
            await run(images.find_image, find(world, f"{guarded.address}/p/repo", "Ours", **config))
    assert "hunter2" not in caught.value.message


async def test_another_registry_gets_no_credentials(world: World, images: ImageActivities) -> None:
    await world.secret("registry", username=USER, password=PASSWORD)
    async with guarded_registry(bearer=True) as guarded:
        config = {
            "checkpointRepoCredentialRef": {"name": "registry"},
            "restoreFrom": f"{guarded.address}/p/repo:t",
        }
        with pytest.raises(ApplicationError, match="an anonymous user"):
            await run(images.find_image, find(world, "gcr.io/p/repo", "Image", **config))


async def test_registry_that_is_down_may_be_up_at_the_next_look(world: World, images: ImageActivities) -> None:
    with pytest.raises(ConnectionError, match=r"registry 127\.0\.0\.1:9"):
        await run(images.find_image, find(world, "127.0.0.1:9/p/repo", "Ours"))


async def delete(world: World, images: ImageActivities, repository: str, *which: str, **config: Any) -> DeletedImages:
    request = {
        "job": world.job,
        "config": CheckpointConfig.model_validate({"checkpointImageRepo": repository, **config}),
        "images": which,
    }
    return await run(images.delete_images, DeleteImages.model_validate(request))


async def test_deleted_image_is_gone_by_tag_and_by_digest_and_the_others_stay(
    world: World, images: ImageActivities, repository: Repository
) -> None:
    digest, other = await repository.push(OURS), await repository.push(FURTHER)
    for _ in range(2):  # the second time it is gone already
        gone = await delete(world, images, repository.full, f"{repository.full}:{OURS}@{digest}")
        assert gone.refused is None
    async with OciClient(repository.host, plain_http=True) as client:
        for reference in (OURS, digest):
            with pytest.raises(RegistryError, match="404"):
                await client.manifest(repository.name, reference)
        assert (await client.manifest(repository.name, FURTHER))[1] == other
    assert (await found(images, find(world, repository.full, "Ours"))).progress == 9


async def test_image_is_deleted_by_its_tag_where_its_digest_is_not_known(
    world: World, images: ImageActivities, repository: Repository
) -> None:
    await repository.push(OURS)
    assert (await delete(world, images, repository.full, f"{repository.full}:{OURS}")).refused is None
    assert (await run(images.find_image, find(world, repository.full, "Ours"))).point is None


async def test_images_of_others_are_never_deleted(
    world: World, images: ImageActivities, repository: Repository
) -> None:
    digest = await repository.push(OTHERS)
    await repository.push("latest")
    elsewhere = f"{repository.host}/elsewhere:{OURS}"
    which = (f"{repository.full}:{OTHERS}@{digest}", f"{repository.full}:latest", f"{repository.full}@{digest}")
    assert (await delete(world, images, repository.full, *which, elsewhere)).refused is None
    async with OciClient(repository.host, plain_http=True) as client:
        assert (await client.manifest(repository.name, OTHERS))[1] == digest
        await client.manifest(repository.name, "latest")


@pytest.mark.parametrize(
    ("how", "deleted"),
    [({}, [OURS, DIGEST]), ({"by_tag": 405}, [DIGEST]), ({"by_tag": 400}, [DIGEST])],
    ids=["a tag first, as Google wants it", "no deletion of a tag", "a tag is no digest"],
)
async def test_registries_that_differ_in_what_they_delete(
    world: World, images: ImageActivities, how: dict[str, Any], deleted: list[str]
) -> None:
    await world.secret("registry", username=USER, password=PASSWORD)
    config = {"checkpointRepoCredentialRef": {"name": "registry"}}
    async with guarded_registry(bearer=True, **how) as guarded:
        repository = f"{guarded.address}/p/repo"
        assert (await delete(world, images, repository, f"{repository}:{OURS}", **config)).refused is None
        assert guarded.deleted == deleted
        assert guarded.scopes == ["repository:p/repo:pull", "repository:p/repo:delete"]


@pytest.mark.parametrize("status", [400, 403, 405])
async def test_refused_deletion_is_told_and_no_failure(world: World, images: ImageActivities, status: int) -> None:
    await world.secret("registry", username=USER, password=PASSWORD)
    config = {"checkpointRepoCredentialRef": {"name": "registry"}}
    async with guarded_registry(bearer=False, deletion=status, by_tag=status) as guarded:
        repository = f"{guarded.address}/p/repo"
        refused = (await delete(world, images, repository, f"{repository}:{OURS}", **config)).refused
    assert refused is not None
    assert f"answered {status}" in refused


async def test_wrong_credentials_refuse_a_deletion_too(world: World, images: ImageActivities) -> None:
    async with guarded_registry(bearer=True) as guarded:
        repository = f"{guarded.address}/p/repo"
        refused = (await delete(world, images, repository, f"{repository}:{OURS}")).refused
    assert refused is not None
    assert "anonymous" in refused


@pytest.mark.parametrize("status", [429, 503])
async def test_failing_registry_is_asked_again(world: World, images: ImageActivities, status: int) -> None:
    await world.secret("registry", username=USER, password=PASSWORD)
    config = {"checkpointRepoCredentialRef": {"name": "registry"}}
    async with guarded_registry(bearer=False, deletion=status) as guarded:
        repository = f"{guarded.address}/p/repo"
        with pytest.raises(ConnectionError, match=str(status)):
            await delete(world, images, repository, f"{repository}:{OURS}", **config)
