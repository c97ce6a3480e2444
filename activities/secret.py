"""Credentials, from the Secrets that people name in their objects."""

import base64
from collections.abc import Collection
from dataclasses import dataclass

from temporalio.exceptions import ApplicationError

from api import errors, names
from api.common import SecretReference
from api.formats import misshapen
from clients.kube import Json, Kube, KubeError, path


@dataclass(frozen=True)
class Sharing:
    """Who may name a Secret of another namespace: the worker reads any, whoever writes a job may not.

    Args:
        kube: where the Secrets are.
        namespaces: whose Secrets every job may name (``OUTLAST_SHARED_SECRET_NAMESPACES``).
    """

    kube: Kube
    namespaces: Collection[str] = ()

    async def permits(self, secret: SecretReference, namespace: str, holder: str | None = None) -> bool:
        """True if a job in ``namespace`` may use ``secret``, or holds it by its finalizer ``holder`` already.

        Only what was permitted is held, and nobody puts a finalizer on a Secret who may not write it. A Secret that
        does not exist, or that the worker may not read, is refused as well: whoever asks learns nothing.
        """
        where = secret.namespace or namespace
        if misshapen(secret):
            return False
        if where == namespace or where in self.namespaces:
            return True
        try:
            found = await self.kube.find(path("v1", "secrets", where, secret.name))
        except KubeError as error:
            if error.status != 403:
                raise
            return False
        if found is None:
            return False
        return is_shared(found, namespace) or holder in (found["metadata"].get("finalizers") or [])


def is_shared(secret: Json, namespace: str) -> bool:
    """Whoever may write the Secret has annotated that jobs in ``namespace`` may use it."""
    told = (secret["metadata"].get("annotations") or {}).get(names.ANNOTATION_SHARED, "")
    return not {"*", namespace}.isdisjoint(each.strip() for each in told.split(","))


async def read_secret(kube: Kube, namespace: str, name: str) -> dict[str, str]:
    """The decoded entries of a Secret.

    Raises:
        ApplicationError: of type ``errors.MISSING`` where there is no such Secret.
    """
    found = await kube.find(path("v1", "secrets", namespace, name))
    if found is None:
        raise ApplicationError(
            f"Secret {namespace}/{name} does not exist: create it, or correct the reference to it",
            type=errors.MISSING,
            non_retryable=True,
        )
    return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}
