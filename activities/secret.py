"""Credentials, from the Secrets that people name in their objects."""

import base64

from temporalio.exceptions import ApplicationError

from api import errors
from clients.kube import Kube, path


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
