"""A bucket behind a small interface with typed errors; ``bucket.py`` is what is behind it, for GCS, S3 and Azure.

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
    """What messages call a bucket: ``gcs bucket my-bucket``."""
    return f"{storage.type} bucket {storage.bucket}"


async def whole(body: bytes) -> AsyncIterator[bytes]:
    """Give an object as one part, for :meth:`Storage.put`."""
    yield body


class Storage(Protocol):
    """One bucket, reached with one set of credentials."""

    async def list(self, prefix: str) -> list[StoredObject]:
        """All objects below a prefix, which is a directory: ``a/b`` does not list ``a/bc``."""
        ...

    async def get(self, key: str, limit: int) -> bytes:
        """The first ``limit`` bytes of an object; empty where it is not there (any more)."""
        ...

    async def put(self, key: str, parts: AsyncIterator[bytes]) -> None:
        """Upload an object; it is there as a whole or not at all. What ``parts`` raises ends it."""
        ...


class Buckets(Protocol):
    """Opens a bucket with the credentials that the job names."""

    async def open(self, storage: CheckpointStorage, cloud: SecretReference | None, namespace: str) -> Storage:
        """``cloud`` is the job's gcpCredentialsSecretRef, ``namespace`` the job's.

        Raises Missing or Invalid, with the remedy, where a Secret is not there or holds no key.
        """
        ...
