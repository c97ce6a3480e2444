"""Protect what a job's teardown needs: the SpotInstanceVM that it buys by, and the Secrets that it uses."""

import asyncio

from activities.documents.checks import SecretUse, not_shared
from activities.documents.finalizers import Finalizers
from activities.documents.findings import Findings, together
from activities.documents.reader import Read, vm_not_found, vm_path
from activities.kubernetes.coalesced import REFUSED
from activities.kubernetes.secret import Sharing
from activities.signatures import JobRef
from api import names, reasons
from api.common import Condition, SecretReference, not_accepted
from api.spot_instance_vm import SpotInstanceVMSpec
from clients.kube import Kube, KubeError, path


class Protection:
    """Puts a job's finalizer on what it names. What it may not name stays as it is.

    Args:
        kube: the cluster, from which it reads Secrets, whose values stay here.
        finalizers: writes the finalizers.
        sharing: the rules on Secrets of other namespaces.
    """

    def __init__(self, kube: Kube, finalizers: Finalizers, sharing: Sharing) -> None:
        self._kube = kube
        self._finalizers = finalizers
        self._sharing = sharing

    async def vm(self, job: JobRef, read: Read[SpotInstanceVMSpec]) -> Read[SpotInstanceVMSpec]:
        """Protect a SpotInstanceVM that was read. One that cannot be protected is as if it did not exist."""
        if read.found is None:
            return read
        name = read.found["metadata"]["name"]
        try:
            protected = await self._finalizers.add(vm_path(job, name), read.found, job)
        except KubeError as error:
            if error.status != 422:
                raise
            return Read(problems=[not_accepted(reasons.INVALID_SPEC, f"SpotInstanceVM {name}: {error.message}")])
        return read if protected else vm_not_found(job, name)

    async def secrets(self, job: JobRef, uses: list[SecretUse]) -> tuple[Findings, Findings]:
        """Protect the Secrets that the job may use, and check their keys.

        Returns:
            What is wrong with the references to Secrets, and with the Secrets themselves.
        """
        permitted = await asyncio.gather(*(self._permits(job, use) for use in uses))
        refused = [use for use, good in zip(uses, permitted, strict=True) if not good]
        used = await asyncio.gather(
            *(self._secret(job, use) for use, good in zip(uses, permitted, strict=True) if good)
        )
        return Findings(not_shared(refused, job.namespace)), together(used)

    async def _permits(self, job: JobRef, use: SecretUse) -> bool:
        """True if the job may use a Secret, or uses it already, since it keeps what it was granted."""
        reference = SecretReference(name=use.name, namespace=use.namespace)
        finalizer = names.job_finalizer(job.job_id)
        return await self._sharing.permits(reference, job.namespace, finalizer)

    async def _secret(self, job: JobRef, use: SecretUse) -> Findings:
        """Protect one Secret and check its keys."""
        where = path("v1", "secrets", use.namespace, use.name)
        found = await self._kube.shared(where)
        try:
            protected = found is not None and await self._finalizers.add(where, found, job)
        except KubeError as error:
            if error.status not in REFUSED:
                raise
            return Findings([_no_room(use, error)])
        if found is None or not protected:
            message = f"there is no Secret {use.namespace}/{use.name}: create it, or correct {use.field}"
            return Findings() if use.optional else Findings([not_accepted(reasons.SECRET_NOT_FOUND, message)])
        lacking = [key for key in use.keys if not (found.get("data") or {}).get(key)]
        if not lacking:
            return Findings(warnings=[use.warning] if use.warning else [])
        message = f"Secret {use.namespace}/{use.name}, named by {use.field}, lacks the key {' and '.join(lacking)}"
        return Findings() if use.optional else Findings([not_accepted(reasons.SECRET_INCOMPLETE, message)])


def _no_room(use: SecretUse, refusal: KubeError) -> Condition:
    """Say that a Secret has no room for one more job, because Kubernetes limits what annotations may take."""
    message = (
        f"Secret {use.namespace}/{use.name}, named by {use.field}, cannot be protected for one more job: "
        f"{refusal.message}. Give some of the jobs that name it a Secret of their own"
    )
    return not_accepted(reasons.SECRET_NOT_PROTECTED, message)
