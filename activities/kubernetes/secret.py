"""Credentials from the Secrets that people name in their objects."""

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
    """Decides who may name a Secret of another namespace. The worker reads any; whoever writes a job may not.

    Args:
        kube: the cluster, to read Secrets.
        namespaces: namespaces with Secrets that every job may name (``OUTLAST_SHARED_SECRET_NAMESPACES``).
    """

    kube: Kube
    namespaces: Collection[str] = ()

    async def permits(self, secret: SecretReference, namespace: str, finalizer: str | None = None) -> bool:
        """True if a job in ``namespace`` may use ``secret``, or protects it by its finalizer ``finalizer`` already.

        A job protects only what it was permitted to use, and only those who may write a Secret can put a finalizer on
        it. A Secret that does not exist, or that the worker may not read, is refused as well: whoever asks learns
        nothing.
        """
        where = secret.namespace or namespace
        if misshapen(secret):
            return False
        if where == namespace or where in self.namespaces:
            return True
        try:
            found = await self.kube.shared(path("v1", "secrets", where, secret.name))
        except KubeError as error:
            if error.status != 403:
                raise
            return False
        if found is None:
            return False
        return is_shared(found, namespace) or finalizer in (found["metadata"].get("finalizers") or [])


def is_shared(secret: Json, namespace: str) -> bool:
    """True if the Secret's annotation, which only its writers can set, allows jobs in ``namespace`` to use it."""
    told = (secret["metadata"].get("annotations") or {}).get(names.ANNOTATION_SHARED, "")
    return not {"*", namespace}.isdisjoint(each.strip() for each in told.split(","))


async def read_secret(kube: Kube, namespace: str, name: str) -> dict[str, str]:
    """Read the decoded entries of a Secret.

    Raises:
        ApplicationError: of type ``errors.MISSING`` if the Secret does not exist.
    """
    found = await kube.shared(path("v1", "secrets", namespace, name))
    if found is None:
        raise ApplicationError(
            f"Secret {namespace}/{name} does not exist: create it, or correct the reference to it",
            type=errors.MISSING,
            non_retryable=True,
        )
    return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}
