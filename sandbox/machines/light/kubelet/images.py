"""Image pulls: real ones from the sandbox's registry; images of other hosts are out of reach and count as present."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp

from sandbox.kube_client import ApiError, KubeClient
from sandbox.machines.light.kubelet.checkpoint import Checkpoint, is_checkpoint
from sandbox.machines.light.kubelet.process import Json
from sandbox.oci import ImageRef, OciClient, RegistryError


class PullError(Exception):
    """An image could not be pulled; the message and ``reason`` are what the runtime would report."""

    def __init__(self, message: str, reason: str = "ErrImagePull") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Image:
    """A pulled image: its id, and the process in it if it is a checkpoint."""

    id: str
    checkpoint: Checkpoint | None = None


class ImageStore:
    """The images of one node."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._images: dict[str, Image] = {}

    async def get(self, pod: Json, container: Json) -> Image:
        """Return the image of a container, and pull it if its pull policy says so.

        Raises:
            PullError: it cannot be pulled.
        """
        name = container["image"]
        try:
            ref = ImageRef.parse(name)
        except ValueError as error:
            raise PullError(f'Failed to apply default image tag "{name}": {error}', "InvalidImageName") from error
        if not ref.is_loopback:
            return Image(f"{ref.host}/{ref.repository}@sha256:{hashlib.sha256(name.encode()).hexdigest()}")
        policy = container.get("imagePullPolicy", "IfNotPresent")
        if name in self._images and policy != "Always":
            return self._images[name]
        if policy == "Never":
            message = f'Container image "{name}" is not present with pull policy of Never'
            raise PullError(message, "ErrImageNeverPull")
        self._images[name] = await self._pull(ref, await self._credentials(pod, ref.host))
        return self._images[name]

    async def _pull(self, ref: ImageRef, credentials: tuple[str, str] | None) -> Image:
        try:
            async with OciClient(ref.host, plain_http=True, credentials=credentials) as registry:
                manifest, digest = await registry.manifest(ref.repository, ref.reference)
                checkpoint = None
                if is_checkpoint(manifest):
                    # The layer is the archive itself: the image is built from scratch around it.
                    archive = await registry.blob(ref.repository, manifest["layers"][0]["digest"])
                    checkpoint = Checkpoint.read(archive)
                    await self._check_base(checkpoint)
        except (RegistryError, ValueError, aiohttp.ClientError, TimeoutError, OSError) as error:
            name = f"{ref.host}/{ref.repository}:{ref.reference}"
            absent = isinstance(error, RegistryError) and error.status == 404
            # For an image that does not exist, containerd does not pass on the registry's message.
            why = f'failed to resolve reference "{name}": {name}: not found' if absent else str(error)
            raise PullError(f'failed to pull and unpack image "{name}": {why}') from error
        return Image(f"{ref.host}/{ref.repository}@{digest}", checkpoint)

    async def _check_base(self, checkpoint: Checkpoint) -> None:
        """Check that the base image exists: the checkpoint contains only what the process has changed of it."""
        base = ImageRef.parse(checkpoint.base_image)
        if base.is_loopback:
            async with OciClient(base.host, plain_http=True) as registry:
                await registry.manifest(base.repository, base.reference)

    async def _credentials(self, pod: Json, host: str) -> tuple[str, str] | None:
        """Return the pod's credentials for a registry, from its imagePullSecrets; None if it has none."""
        async for config in self._pull_configs(pod):
            for server, entry in config.get("auths", {}).items():
                if _host_of(server) == host:
                    user, _, password = base64.b64decode(entry.get("auth", "")).decode().partition(":")
                    return entry.get("username", user), entry.get("password", password)
        return None

    async def _pull_configs(self, pod: Json) -> AsyncIterator[Json]:
        for reference in pod["spec"].get("imagePullSecrets", ()):
            path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/secrets/{reference['name']}"
            try:
                secret = await self._client.get(path)
            except ApiError:
                continue  # as in the kubelet, a missing pull secret is no error: the pull will fail
            yield json.loads(base64.b64decode(secret.get("data", {}).get(".dockerconfigjson", "e30=")))


def _host_of(server: str) -> str:
    return server.removeprefix("https://").removeprefix("http://").partition("/")[0]
