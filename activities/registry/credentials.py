"""The checkpoint repository's credentials: from the Secret that the operator reads to one that kubelets pull with.

The operator's own format is an Opaque Secret with ``username``, ``password`` and optionally ``registry``; a pod's
``imagePullSecrets`` want ``kubernetes.io/dockerconfigjson``.
"""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from temporalio.exceptions import ApplicationError

from activities.kubernetes import ownership
from activities.kubernetes.secret import read_secret
from activities.registry.repository import DOCKER_HUB, is_google, parse_repository
from activities.signatures import CreateReplica, JobRef
from api import errors, names
from api.common import SecretReference
from clients.kube import Kube

GOOGLE_USER = "_json_key"
"""The user name with which Google's registries accept a service account's key as the password."""
CLOUD_KEY = "gcpCredentialsSecretRef"
"""The field that names the cloud's key, which is shown only to Google's hosts."""
DOCKER_HUB_KEY = "https://index.docker.io/v1/"
"""The key under which container runtimes look up Docker Hub's credentials."""


@dataclass(frozen=True)
class Credentials:
    """The login for a registry; its representation never shows the password."""

    username: str
    password: str = field(repr=False)
    registry: str | None = None
    named_by: str = "checkpointRepoCredentialRef"  # the field that names their Secret


async def repository_credentials(
    kube: Kube,
    repository: str | None,
    reference: SecretReference | None,
    cloud: SecretReference | None,
    namespace: str,
) -> Credentials | None:
    """Read what opens the repository: ``checkpointRepoCredentialRef``, else on Google's hosts the cloud's key.

    The key of ``gcpCredentialsSecretRef`` (``cloud``) is shown to no other host.

    Raises:
        ApplicationError: of type ``errors.MISSING`` if the Secret or one of its keys does not exist.
    """
    if reference is not None or cloud is None or repository is None:
        return await read_credentials(kube, reference, namespace)
    if not is_google(_host(repository)):
        return None
    where = cloud.namespace or namespace
    key = (await read_secret(kube, where, cloud.name)).get("credentials.json")
    if not key:
        raise ApplicationError(
            f"Secret {where}/{cloud.name} lacks credentials.json, which contains the service account's key for GCP",
            type=errors.MISSING,
            non_retryable=True,
        )
    return Credentials(GOOGLE_USER, key.strip(), named_by=CLOUD_KEY)


async def read_credentials(kube: Kube, reference: SecretReference | None, namespace: str) -> Credentials | None:
    """Read ``checkpointRepoCredentialRef``; None if it is not set. ``namespace`` is the job's.

    Raises:
        ApplicationError: of type ``errors.MISSING`` if the Secret or one of its keys does not exist.
    """
    if reference is None:
        return None
    where = reference.namespace or namespace
    entries = await read_secret(kube, where, reference.name)
    lacking = [key for key in ("username", "password") if not entries.get(key)]
    if lacking:
        raise ApplicationError(
            f"Secret {where}/{reference.name} lacks {' and '.join(lacking)}: the checkpoint operator reads an Opaque "
            "Secret with the keys username, password and optionally registry",
            type=errors.MISSING,
            non_retryable=True,
        )
    return Credentials(entries["username"].strip(), entries["password"].strip(), entries.get("registry"))


def pulls_by(request: CreateReplica) -> SecretReference | None:
    """Choose the Secret from which a pull secret in the job's namespace may be made; None if there is none.

    The cloud's key of another namespace is not copied into the job's, because it opens more than a registry.
    """
    cloud = request.cloud_credentials
    if request.image_pull is not None or cloud is None or request.checkpoint_image_repo is None:
        return request.image_pull
    mine = cloud.namespace in (None, request.job.namespace)
    return cloud if mine and is_google(_host(request.checkpoint_image_repo)) else None


def _host(repository: str) -> str:
    """Read the registry in ``checkpointImageRepo``.

    Raises:
        ApplicationError: ``errors.INVALID`` if it is no repository; the message says how to write it.
    """
    try:
        return parse_repository(repository).host
    except ValueError as error:
        message = f"checkpointConfig.checkpointImageRepo: {error}"
        raise ApplicationError(message, type=errors.INVALID, non_retryable=True) from error


def pull_secret(job: JobRef, credentials: Credentials, repository: str | None) -> dict[str, Any]:
    """Build the Secret with which the job's pods pull; the SpotInstanceJob owns it."""
    hosts = {_host(repository)} if repository else set()
    if credentials.registry:
        hosts.add(credentials.registry.strip().removeprefix("https://").removeprefix("http://").rstrip("/"))
    login = base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()
    entry = {"username": credentials.username, "password": credentials.password, "auth": login}
    auths = {DOCKER_HUB_KEY if host == DOCKER_HUB else host: entry for host in sorted(hosts)}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.pull_secret_name(job.name, job.job_id),
            "namespace": job.namespace,
            "labels": {names.LABEL_JOB: job.job_id, names.LABEL_MANAGED_BY: names.MANAGED_BY},
            "ownerReferences": [ownership.owner(job)],
        },
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(json.dumps({"auths": auths}).encode()).decode()},
    }
