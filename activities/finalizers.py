"""Our finalizers on what a job needs for its teardown: Secrets and the SpotInstanceVM must outlive its VMs.

Beside the finalizer stand a label and an annotation with the same key. By the label, what a job holds is found again by
the server's index, also after a spec was edited and names other objects; the annotation names the job's workflow. By a
label that is the same for all, the sweep finds what any job holds.
"""

from collections.abc import Iterable

from activities.signatures import JobRef
from api import names
from clients.kube import Json, Kube, KubeError, path

TRIES = 5


async def hold(kube: Kube, where: str, job: JobRef) -> Json | None:
    """Put the job's finalizer on the object at ``where`` and return it; None where it is not there, or going."""
    finalizer, workflow_id = names.job_finalizer(job.job_id), names.job_workflow_id(job.namespace, job.name)
    for _ in range(TRIES):
        found = await kube.find(where)
        if found is None:
            return None
        metadata = found["metadata"]
        finalizers = metadata.get("finalizers") or []
        if finalizer in finalizers:
            return found
        if "deletionTimestamp" in metadata:
            return None  # no finalizer can be added any more
        change = {
            "finalizers": [*finalizers, finalizer],
            "labels": {finalizer: "", names.LABEL_HELD: ""},
            "annotations": {finalizer: workflow_id},
        }
        if await _change(kube, where, metadata, change):
            return found
    raise TimeoutError(f"{where} is changed by others all the time: the finalizer {finalizer} could not be added")


async def let_go(kube: Kube, where: str, finalizer: str) -> None:
    """Take ``finalizer`` off the object at ``where``, and what tells of it; not-found and not-held are success."""
    for _ in range(TRIES):
        found = await kube.find(where)
        if found is None:
            return
        metadata = found["metadata"]
        finalizers = metadata.get("finalizers") or []
        if finalizer not in finalizers and finalizer not in (metadata.get("labels") or {}):
            return
        kept = [each for each in finalizers if each != finalizer]
        labels = {finalizer: None} | ({} if any(map(names.job_id_of, kept)) else {names.LABEL_HELD: None})
        change = {"finalizers": kept, "labels": labels, "annotations": {finalizer: None}}
        if await _change(kube, where, metadata, change):
            return
    raise TimeoutError(f"{where} is changed by others all the time: the finalizer {finalizer} could not be removed")


def holders(held: Json) -> list[tuple[str, str]]:
    """(job id, workflow id) of each job that holds the object."""
    metadata = held["metadata"]
    told = metadata.get("annotations") or {}
    finalizers = metadata.get("finalizers") or []
    return [(job_id, told[each]) for each in finalizers if (job_id := names.job_id_of(each)) and each in told]


async def held_secrets(kube: Kube, selector: str, namespaces: Iterable[str]) -> list[Json]:
    """Secrets by a label: of the whole cluster, or where the worker may not list these, of ``namespaces`` it may."""
    found = await _listed(kube, path("v1", "secrets"), selector)
    if found is not None:
        return found
    each = [await _listed(kube, path("v1", "secrets", namespace), selector) for namespace in sorted(set(namespaces))]
    return [secret for secrets in each for secret in secrets or []]


async def held_by_any(kube: Kube, vm_objects: list[Json], shared: Iterable[str]) -> list[Json]:
    """Secrets that any job holds: beside the SpotInstanceVMs ``vm_objects``, and in ``shared`` namespaces."""
    return await held_secrets(
        kube, names.LABEL_HELD, {*(each["metadata"]["namespace"] for each in vm_objects), *shared}
    )


async def _listed(kube: Kube, where: str, selector: str) -> list[Json] | None:
    """None where it is forbidden."""
    try:
        return await kube.list(where, labelSelector=selector)
    except KubeError as error:
        if error.status == 403:
            return None
        raise


async def _change(kube: Kube, where: str, metadata: Json, change: Json) -> bool:
    """Patch the metadata that was read; False where somebody else was quicker."""
    try:
        await kube.patch(where, {"metadata": {"resourceVersion": metadata["resourceVersion"], **change}})
    except KubeError as error:
        if error.status in (404, 409):
            return False
        raise
    return True
