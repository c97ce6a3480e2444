"""Check whether the cause that kept a pod from running persists: a missing image, Secret or ConfigMap.

It is asked while nothing is bought for the pod, so that the first correction is noticed soon.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.network.gate import Gate
from activities.registry.client import Registry
from activities.registry.credentials import DOCKER_HUB_KEY, Credentials, repository_credentials
from activities.registry.repository import DOCKER_HUB, Image, parse_image, parse_repository
from activities.replicas.pods import all_containers
from activities.signatures import FIND_CAUSE, Cause, FindCause
from api import errors
from api.waiting import CONFIG, PULLS
from clients.kube import Json, Kube, KubeError, path

SOURCES = {CONFIG, "FailedMount"}
"""Reasons of the kubelet for a Secret or a ConfigMap that does not exist or lacks a key."""
PULL_SECRETS = "imagePullSecrets"


class CauseActivities:
    """Checks what a template names. ``kube`` may read Secrets and ConfigMaps, ``gate`` leads to registries."""

    def __init__(self, kube: Kube, gate: Gate) -> None:
        self._kube = kube
        self._gate = gate

    @activity.defn(name=FIND_CAUSE.name)
    async def find_cause(self, request: FindCause) -> Cause:
        """Say what the template still lacks, if things of that kind can be checked from here."""
        pod = request.job_template.get("spec", {}).get("template", {}).get("spec", {})
        try:
            if request.reason in PULLS:
                return await self._missing_image(request, pod)
            if request.reason in SOURCES:
                return await self._missing_source(request, pod)
        except KubeError as error:
            if error.status != 403:
                raise
        return Cause(known=False)  # also if the worker may not read this namespace

    async def _missing_image(self, request: FindCause, pod: Json) -> Cause:
        restored = request.restore.images if request.restore else {}
        for container in all_containers(pod):
            text = restored.get(container.get("name") or "") or container.get("image") or ""
            credentials = None
            try:
                image = parse_image(text)
                credentials = await self._credentials(request, pod, image)
                async with Registry(image.repository, credentials, self._gate) as there:
                    found = await there.digest(image.reference)
            except ValueError as error:
                return Cause(missing=f"image of container {container.get('name')}: {error}")
            except ApplicationError as error:
                if error.type != errors.PERMISSION:
                    return Cause(known=False)  # for example an address that only nodes reach
                if absent := await self._absent_login(request, pod):
                    return Cause(missing=absent)
                if credentials is None or credentials.named_by != PULL_SECRETS:
                    return Cause(known=False)  # nodes may have a login of their own
                return Cause(missing=f"{image}: {error.message}")
            except ConnectionError:
                return Cause(known=False)
            if found is None:
                return Cause(missing=f"image {image} does not exist: push it, or correct jobTemplate")
        return Cause()

    async def _credentials(self, request: FindCause, pod: Json, image: Image) -> Credentials | None:
        """Find the credentials with which the pod pulls: its ``imagePullSecrets``, else the checkpoint repository's."""
        for reference in pod.get("imagePullSecrets") or []:
            secret = await self._find("secrets", request.job.namespace, reference.get("name", ""))
            if secret is not None and (found := _login(secret, image.repository.host)) is not None:
                return found
        repository = request.checkpoint_image_repo
        if repository is None or parse_repository(repository).host != image.repository.host:
            return None
        return await repository_credentials(
            self._kube, repository, request.image_pull, request.cloud_credentials, request.job.namespace
        )

    async def _absent_login(self, request: FindCause, pod: Json) -> str:
        """Name the Secret of ``imagePullSecrets`` that does not exist; empty if all of them do."""
        for reference in pod.get("imagePullSecrets") or []:
            name = reference.get("name", "")
            if name and await self._find("secrets", request.job.namespace, name) is None:
                said = f"Secret {request.job.namespace}/{name}, which {PULL_SECRETS} of jobTemplate names, does not"
                return f"{said} exist: create it"
        return ""

    async def _missing_source(self, request: FindCause, pod: Json) -> Cause:
        for kind, name, keys in sources(pod):
            found = await self._find(kind, request.job.namespace, name)
            what = f"{'Secret' if kind == 'secrets' else 'ConfigMap'} {request.job.namespace}/{name}"
            if found is None:
                return Cause(missing=f"{what}, which jobTemplate names, does not exist: create it")
            there = {**(found.get("data") or {}), **(found.get("binaryData") or {})}
            if lacking := [key for key in keys if key not in there]:
                return Cause(missing=f"{what} lacks the key {', '.join(lacking)}, which jobTemplate names: add it")
        return Cause()

    async def _find(self, kind: str, namespace: str, name: str) -> Json | None:
        return await self._kube.find(path("v1", kind, namespace, name))


def sources(pod: Json) -> Iterator[tuple[str, str, list[str]]]:
    """Give the kind, name and keys of each Secret and ConfigMap without which the pod cannot run."""
    for container in all_containers(pod):
        for entry in container.get("env") or []:
            taken = entry.get("valueFrom") or {}
            yield from _source("secrets", taken.get("secretKeyRef"), "name")
            yield from _source("configmaps", taken.get("configMapKeyRef"), "name")
        for entry in container.get("envFrom") or []:
            yield from _source("secrets", entry.get("secretRef"), "name")
            yield from _source("configmaps", entry.get("configMapRef"), "name")
    for volume in pod.get("volumes") or []:
        yield from _source("secrets", volume.get("secret"), "secretName")
        yield from _source("configmaps", volume.get("configMap"), "name")


def _source(kind: str, reference: Any, named: str) -> Iterator[tuple[str, str, list[str]]]:
    if not isinstance(reference, dict) or reference.get("optional") or not reference.get(named):
        return
    keys = [reference["key"]] if reference.get("key") else [each["key"] for each in reference.get("items") or []]
    yield kind, reference[named], keys


def _login(secret: Json, host: str) -> Credentials | None:
    """Read a registry's login from a ``kubernetes.io/dockerconfigjson`` Secret; None if it contains none."""
    key = DOCKER_HUB_KEY if host == DOCKER_HUB else host
    try:
        config = json.loads(base64.b64decode((secret.get("data") or {}).get(".dockerconfigjson", "")))
        entry = config["auths"].get(key) or config["auths"].get(f"https://{key}")
        if not entry:
            return None
        user, _, password = base64.b64decode(entry.get("auth", "")).decode().partition(":")
        return Credentials(entry.get("username") or user, entry.get("password") or password, named_by=PULL_SECRETS)
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
