"""The images to boot from: those of a handful of public projects, and a project's own."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

from sandbox.gce.errors import ApiError, not_found
from sandbox.gce.links import resource_path, self_link


@dataclass(frozen=True)
class Image:
    """An image of ``project``; ``disk_gb`` is the smallest disk that it needs."""

    project: str
    name: str
    family: str | None
    disk_gb: int = 10

    @property
    def path(self) -> str:
        """The path from ``projects/`` on."""
        return f"projects/{self.project}/global/images/{self.name}"

    def resource(self) -> dict[str, Any]:
        """Return the resource ``compute#image``."""
        resource = {
            "kind": "compute#image",
            "id": str(zlib.crc32(self.path.encode()) + 1000),
            "creationTimestamp": "2026-01-15T08:00:00.000-08:00",
            "name": self.name,
            "sourceType": "RAW",
            "status": "READY",
            "diskSizeGb": str(self.disk_gb),
            "architecture": "X86_64",
            "guestOsFeatures": [{"type": "UEFI_COMPATIBLE"}, {"type": "VIRTIO_SCSI_MULTIQUEUE"}, {"type": "GVNIC"}],
            "selfLink": self_link(self.path),
        }
        if self.family:
            resource["family"] = self.family
        return resource


_PUBLIC = (
    Image("ubuntu-os-cloud", "ubuntu-2204-jammy-v20251120", "ubuntu-2204-lts"),
    Image("ubuntu-os-cloud", "ubuntu-2204-jammy-v20260114", "ubuntu-2204-lts"),
    Image("ubuntu-os-cloud", "ubuntu-2404-noble-amd64-v20260110", "ubuntu-2404-lts-amd64"),
    Image("ubuntu-os-cloud", "ubuntu-2404-noble-v20260110", "ubuntu-2404-lts"),
    Image(
        "ubuntu-os-accelerator-images",
        "ubuntu-accelerator-2404-amd64-with-nvidia-580-v20251021",
        "ubuntu-accelerator-2404-amd64-with-nvidia-580",
    ),
    Image("debian-cloud", "debian-12-bookworm-v20260112", "debian-12"),
    Image(
        "deeplearning-platform-release", "common-cu128-ubuntu-2204-v20260105", "common-cu128-ubuntu-2204-nvidia-570", 50
    ),
    Image("deeplearning-platform-release", "common-cu124-v20251230", "common-cu124", 50),
    Image("cos-cloud", "cos-121-18867-199-88", "cos-121-lts"),
    Image("cos-cloud", "cos-stable-121-18867-199-88", "cos-stable"),
)


class Images:
    """The images that exist."""

    def __init__(self) -> None:
        self._images = {image.path: image for image in _PUBLIC}

    def add(self, project: str, name: str, family: str | None = None, disk_gb: int = 10) -> Image:
        """Add an image of a project's own."""
        image = Image(project, name, family, disk_gb)
        self._images[image.path] = image
        return image

    def get(self, project: str, name: str) -> Image:
        """Return an image by its name.

        Raises:
            ApiError: 404.
        """
        path = f"projects/{project}/global/images/{name}"
        if path not in self._images:
            raise not_found(path)
        return self._images[path]

    def from_family(self, project: str, family: str) -> Image:
        """Return the newest image of ``family``.

        Raises:
            ApiError: 404.
        """
        members = [image for image in self._images.values() if (image.project, image.family) == (project, family)]
        if not members:
            raise not_found(f"projects/{project}/global/images/family/{family}")
        return members[-1]

    def resolve(self, reference: str, project: str) -> Image:
        """Return the image that ``initializeParams.sourceImage`` names: an image or a family, by full or partial URL.

        Raises:
            ApiError: 400; the reference is malformed. 404; the image does not exist.
        """
        path = resource_path(reference, project)
        parts = (path or "").split("/")
        match parts:
            case (
                ["projects", owner, "global", "images", "family", family]
                | ["projects", owner, "zones", _, "imageFamilyViews", family]  # as gcloud writes it
            ):
                return self.from_family(owner, family)
            case ["projects", owner, "global", "images", name]:
                return self.get(owner, name)
        raise ApiError(
            400,
            "invalid",
            f"Invalid value for field 'resource.disks[0].initializeParams.sourceImage': '{reference}'. "
            "The URL is malformed.",
        )
