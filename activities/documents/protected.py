"""What jobs protect by their finalizers, found by label."""

from collections.abc import Iterable

from api import names
from clients.kube import Json, Kube, KubeError, path, selector


def protectors(protected: Json) -> list[tuple[str, str]]:
    """List (job id, workflow id) of each job that protects the object."""
    metadata = protected["metadata"]
    told = metadata.get("annotations") or {}
    finalizers = metadata.get("finalizers") or []
    return [
        (job_id, told[each])
        for each in finalizers
        if (job_id := names.job_id_of(each)) and names.is_job_workflow_id(told.get(each, ""))
    ]


async def protected_secrets(kube: Kube, label: str, namespaces: Iterable[str]) -> list[Json]:
    """List Secrets by a label: in the whole cluster, or if that is forbidden, in those ``namespaces`` that are not."""
    found = await _listed(kube, path("v1", "secrets"), label)
    if found is not None:
        return found
    each = [await _listed(kube, path("v1", "secrets", namespace), label) for namespace in sorted(set(namespaces))]
    return [secret for secrets in each for secret in secrets or []]


async def protected_by_any(kube: Kube, vm_objects: list[Json], shared: Iterable[str]) -> list[Json]:
    """List Secrets that any job protects: in the namespaces of ``vm_objects`` (SpotInstanceVMs) and in ``shared``."""
    return await protected_secrets(
        kube, names.LABEL_PROTECTED, {*(each["metadata"]["namespace"] for each in vm_objects), *shared}
    )


async def _listed(kube: Kube, where: str, label: str) -> list[Json] | None:
    """List objects that have this label; None if it is forbidden."""
    try:
        return await kube.list(where, labelSelector=selector({label: None}))
    except KubeError as error:
        if error.status == 403:
            return None
        raise
