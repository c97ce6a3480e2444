"""Release what a job protects: the last act of its teardown."""

import asyncio
from collections.abc import Collection

from activities.documents.finalizers import Finalizers
from activities.documents.protected import protected_secrets
from activities.documents.reader import Reader, job_path, vm_path
from activities.signatures import ReleaseFinalizers
from api import names
from api.formats import misshapen
from clients.kube import Json, Kube, path, selector


class Release:
    """Removes the finalizers of one job from everything that has them, and last from the job itself.

    Args:
        kube: the cluster, in which it may list SpotInstanceVMs and Secrets by label.
        reader: reads the job.
        finalizers: writes the finalizers.
        shared: namespaces with Secrets that every job may name.
    """

    def __init__(self, kube: Kube, reader: Reader, finalizers: Finalizers, shared: Collection[str]) -> None:
        self._kube = kube
        self._reader = reader
        self._finalizers = finalizers
        self._shared = shared

    async def release(self, request: ReleaseFinalizers) -> None:
        """Release what the job protects by label, and what it names; then the job."""
        finalizer = names.job_finalizer(request.job.job_id)
        protected = await self._by_label(request, finalizer) | _by_name(request)
        await asyncio.gather(*(self._finalizers.remove(where, finalizer) for where in sorted(protected)))
        if await self._reader.job(request.job) is not None:
            await self._finalizers.remove(job_path(request.job), names.FINALIZER)

    async def _by_label(self, request: ReleaseFinalizers, finalizer: str) -> set[str]:
        """Find what the job protects, even if it no longer names it."""
        namespace = request.job.namespace
        namespaces = {namespace, *self._shared, *(each for each, _ in _secrets(request))}
        secrets = await protected_secrets(self._kube, finalizer, namespaces)
        vms = path(names.API_VERSION, names.VM_PLURAL, namespace)
        machines = await self._kube.list(vms, labelSelector=selector({finalizer: None}))
        found = {_path_of("v1", "secrets", each) for each in secrets}
        return found | {_path_of(names.API_VERSION, names.VM_PLURAL, each) for each in machines}


def _by_name(request: ReleaseFinalizers) -> set[str]:
    """Give the paths of what the job names, because somebody may have removed our labels."""
    named = {path("v1", "secrets", *each) for each in _secrets(request)}
    if request.vm_name is not None and names.is_segment(request.vm_name):
        named.add(vm_path(request.job, request.vm_name))
    return named


def _secrets(request: ReleaseFinalizers) -> set[tuple[str, str]]:
    """List (namespace, name) of the Secrets that the job names."""
    return {(each.namespace or request.job.namespace, each.name) for each in request.secrets if not misshapen(each)}


def _path_of(api_version: str, plural: str, found: Json) -> str:
    return path(api_version, plural, found["metadata"]["namespace"], found["metadata"]["name"])
