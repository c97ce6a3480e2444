"""A bucket behind a small interface with typed errors, implemented by ``bucket.py`` for GCS, S3 and Azure.

Every method of :class:`Storage` raises a :class:`activities.cloud_errors.CloudError`, never an error of a client
library.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from api.common import SecretReference
from api.spot_instance_job import CheckpointStorage


@dataclass(frozen=True)
class StoredObject:
    """An object in a bucket; ``size`` in bytes."""

    key: str
    size: int


def named(storage: CheckpointStorage) -> str:
    """Name a bucket as messages do: ``gcs bucket my-bucket``."""
    return f"{storage.type} bucket {storage.bucket}"


async def whole(body: bytes) -> AsyncIterator[bytes]:
    """Give an object as one part, for :meth:`Storage.put`."""
    yield body


class Storage(Protocol):
    """One bucket, reached with one set of credentials."""

    async def list(self, prefix: str) -> list[StoredObject]:
        """List all objects below a prefix, which is a directory: ``a/b`` does not list ``a/bc``."""
        ...

    async def get(self, key: str, limit: int) -> bytes:
        """Read the first ``limit`` bytes of an object; empty if it does not exist."""
        ...

    async def put(self, key: str, parts: AsyncIterator[bytes]) -> None:
        """Upload an object; it then exists as a whole or not at all. What ``parts`` raises cancels the upload."""
        ...


class Buckets(Protocol):
    """Opens a bucket with the credentials that the job names."""

    async def open(self, storage: CheckpointStorage, cloud: SecretReference | None, namespace: str) -> Storage:
        """Open a bucket.

        Args:
            storage: the bucket.
            cloud: the job's gcpCredentialsSecretRef.
            namespace: the job's namespace.

        Raises:
            Missing: a Secret does not exist. The message names the remedy.
            Invalid: a Secret contains no key. The message names the remedy.
        """
        ...
