"""The activities on images: find those in the registry that our own record does not know, pin them and delete them."""

import asyncio
from datetime import UTC, datetime

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.network.gate import Gate
from activities.registry.client import Registry
from activities.registry.credentials import repository_credentials
from activities.registry.repository import Image, Repository, parse_image, parse_repository
from activities.signatures import (
    DELETE_IMAGES,
    FIND_IMAGE,
    PIN_IMAGES,
    DeletedImages,
    DeleteImages,
    FindImage,
    FoundImage,
    JobRef,
    PinImages,
)
from api import errors, names
from api.common import SecretReference
from api.spot_instance_job import CheckpointConfig
from api.views import RestorePoint
from clients.kube import Kube


class ImageActivities:
    """Reads the registry through the gate. ``kube`` may read the Secret of ``checkpointRepoCredentialRef``."""

    def __init__(self, kube: Kube, gate: Gate) -> None:
        self._kube = kube
        self._gate = gate

    @activity.defn(name=FIND_IMAGE.name)
    async def find_image(self, request: FindImage) -> FoundImage:
        """Find the job's furthest image, the tag created last, or the image that ``restoreFrom`` names.

        Images come with their digests. It is no error if there is none.

        Raises:
            ApplicationError: ``errors.INVALID`` if the spec names no repository or image to look for,
                ``errors.PERMISSION`` or ``errors.MISSING`` if the credentials are wrong or do not exist.
        """
        if request.which == "Image":
            return FoundImage(point=await self._named(request))
        repository = _repository(request.config)
        async with await self._registry(repository, request) as registry:
            if request.which == "Ours":
                return FoundImage(point=await _furthest(registry, repository, request))
            return FoundImage(point=await _latest(registry, repository, request))

    async def _named(self, request: FindImage) -> RestorePoint | None:
        """Find the image of ``restoreFrom``; for several containers, those with the containers' names in the tag."""
        if not request.config.restore_from:
            raise _invalid("checkpointConfig.restoreFrom names no image")
        image = _image(request.config.restore_from)
        async with await self._registry(image.repository, request) as registry:
            if image.digest:
                made = await registry.created(image.digest)
                alone = len(request.containers) == 1
                images = {request.containers[0]: str(image)} if alone and made is not None else None
            else:
                tag = image.tag or "latest"
                images = await _pinned(registry, image.repository, tag, request.containers)
                made = await registry.created(names.container_tag(tag, request.containers[0], request.containers))
        return _point(request, images, image.tag or "", made) if images is not None else None

    @activity.defn(name=PIN_IMAGES.name)
    async def pin_images(self, request: PinImages) -> RestorePoint:
        """Add the digest to each image that has none, and the annotation by which containerd recognises a checkpoint.

        Raises:
            ApplicationError: ``errors.MISSING`` if an image is no longer in the registry.
        """
        pinned = await asyncio.gather(*(self._pin(*image, request) for image in request.point.images.items()))
        images = dict(zip(request.point.images, pinned, strict=True))
        return request.point.model_copy(update={"images": images})

    async def _pin(self, container: str, text: str, request: PinImages) -> str:
        image = _image(text)
        if image.digest:
            return text
        async with await self._registry(image.repository, request) as registry:
            digest = await registry.pin(image.reference, container)
        if digest is None:
            raise ApplicationError(
                f"image {image} is no longer in its registry", type=errors.MISSING, non_retryable=True
            )
        return str(Image(image.repository, image.tag, digest))

    @activity.defn(name=DELETE_IMAGES.name)
    async def delete_images(self, request: DeleteImages) -> DeletedImages:
        """Delete images of this job from its repository, and no others; one that does not exist counts as deleted.

        If the registry does not allow it, that is no error: the answer contains its reason.
        """
        repository = _repository(request.config)
        ours = [image for image in map(_image, request.images) if _is_ours(image, repository, request.job)]
        async with await self._registry(repository, request) as registry:
            for image in ours:
                try:
                    refused = await registry.delete(image.tag or "", image.digest)
                except ApplicationError as error:
                    if error.type != errors.PERMISSION:
                        raise
                    return DeletedImages(refused=error.message, by_credentials=True)
                if refused is not None:
                    return DeletedImages(refused=refused)
        return DeletedImages()

    async def _registry(self, repository: Repository, request: "FindImage | PinImages | DeleteImages") -> Registry:
        """Open a registry; only that of the checkpoint repository receives credentials, since they are meant for it."""
        config, cloud = request.config, request.cloud_credentials
        ours = config.checkpoint_image_repo is not None and _repository(config).host == repository.host
        reference: SecretReference | None = config.checkpoint_repo_credential_ref
        credentials = (
            await repository_credentials(
                self._kube, config.checkpoint_image_repo, reference, cloud, request.job.namespace
            )
            if ours
            else None
        )
        return Registry(repository, credentials, self._gate)


def _is_ours(image: Image, repository: Repository, job: JobRef) -> bool:
    return image.repository == repository and image.tag is not None and _ours(image.tag, job) is not None


async def _furthest(registry: Registry, repository: Repository, request: FindImage) -> RestorePoint | None:
    """Find the tag of this job with the most progress; if there are several, the newest."""
    tags = (await registry.tags()).names
    ours = {(found[1], found[2], tag) for tag in _whole(tags, request.containers) if (found := _ours(tag, request.job))}
    for _, unix, tag in sorted(ours, reverse=True):
        images = await _pinned(registry, repository, tag, request.containers)
        if images is not None:
            return _point(request, images, tag, datetime.fromtimestamp(unix, UTC))
    return None


async def _latest(registry: Registry, repository: Repository, request: FindImage) -> RestorePoint | None:
    """Find the tag that was created last, whichever job it belongs to."""
    tags = await registry.tags()
    whole = sorted(_whole(tags.names, request.containers))

    async def created(tag: str) -> datetime | None:
        of_first = names.container_tag(tag, request.containers[0], request.containers)
        return tags.created.get(of_first) or await registry.created(of_first)

    made = dict(zip(whole, await asyncio.gather(*map(created, whole)), strict=True))
    for tag in sorted(whole, key=lambda each: (made[each] or datetime.min.replace(tzinfo=UTC), each), reverse=True):
        images = await _pinned(registry, repository, tag, request.containers)
        if images is not None:
            return _point(request, images, tag, made[tag])
    return None


def _ours(tag: str, job: JobRef) -> tuple[str, int, int] | None:
    found = names.parse_image_tag(tag)
    return found if found is not None and found[0] == job.job_id else None


def _whole(tags: list[str], containers: list[str]) -> set[str]:
    """List the tags for which every container has an image, without the containers' names."""
    if len(containers) == 1:
        return set(tags)
    of_each = [{tag.removesuffix(f"_{name}") for tag in tags if tag.endswith(f"_{name}")} for name in containers]
    return set.intersection(*of_each)


async def _pinned(registry: Registry, repository: Repository, tag: str, containers: list[str]) -> dict[str, str] | None:
    """Read each container's image with its digest; None if one does not exist."""
    images = {}
    for container in containers:
        name = names.container_tag(tag, container, containers)
        digest = await registry.digest(name)
        if digest is None:
            return None
        images[container] = str(Image(repository, name, digest))
    return images


def _point(request: FindImage, images: dict[str, str], tag: str, made: datetime | None) -> RestorePoint:
    found, reports = names.parse_image_tag(tag), request.config.progress is not None
    return RestorePoint(
        images=images,
        progress=found[1] if found else 0,
        reported=found is not None and reports,
        seconds=found[1] if found and not reports else 0,  # the tag then contains training time, which continues
        created_at=made or datetime.fromtimestamp(found[2] if found else 0, UTC),
    )


def _repository(config: CheckpointConfig) -> Repository:
    if config.checkpoint_image_repo is None:
        raise _invalid("checkpointConfig.checkpointImageRepo is not set: there is no repository to look in")
    try:
        return parse_repository(config.checkpoint_image_repo)
    except ValueError as error:
        raise _invalid(f"checkpointConfig.checkpointImageRepo: {error}") from error


def _image(text: str) -> Image:
    try:
        return parse_image(text)
    except ValueError as error:
        raise _invalid(str(error)) from error


def _invalid(message: str) -> ApplicationError:
    return ApplicationError(message, type=errors.INVALID, non_retryable=True)
