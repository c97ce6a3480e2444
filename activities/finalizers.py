"""Our finalizers on what a job needs for its teardown: Secrets and the SpotInstanceVM must outlive its VMs.

Beside the finalizer stand a label and an annotation with the same key. By the label, what a job holds is found again by
the server's index, also after a spec was edited and names other objects; the annotation names the job's workflow. By a
label that is the same for all, the sweep finds what any job holds.
"""

import logging
from collections.abc import Iterable

from pydantic import ValidationError

from activities.signatures import JobRef
from api import names
from api.formats import reshaped
from api.model import Model
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec
from clients.kube import Json, Kube, KubeError, path, selector

TRIES = 5
_SPECS: dict[str, type[Model]] = {"SpotInstanceJob": SpotInstanceJobSpec, "SpotInstanceVM": SpotInstanceVMSpec}

log = logging.getLogger(__name__)


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
        if await kube.rewrite(where, found, {"metadata": change}):
            return found
    raise TimeoutError(f"{where} is changed by others all the time: the finalizer {finalizer} could not be added")


async def let_go(kube: Kube, where: str, finalizer: str) -> None:
    """Take ``finalizer`` off the object at ``where``, and its label and annotation; not-found and not-held are success.

    Before Kubernetes 1.30 the API server judges all of an object at each change. One that was stored before the CRD
    had its formats may break them, and could never go. Once it is being deleted nobody works by its spec any more, so
    the same change puts an example in place of what is wrong. One that is not being deleted keeps spec and finalizer;
    the sweep removes the finalizer later.
    """
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
        try:
            done = await kube.rewrite(where, found, {"metadata": change})
        except KubeError as error:
            if error.status != 422:
                raise
            if "deletionTimestamp" not in metadata:
                log.warning("%s keeps the finalizer %s until it is deleted: %s", where, finalizer, error.message)
                return
            done = await kube.rewrite(where, found, {"metadata": change, "spec": _repaired(found, error)})
        if done:
            return
    raise TimeoutError(f"{where} is changed by others all the time: the finalizer {finalizer} could not be removed")


def _repaired(found: Json, refusal: KubeError) -> Json:
    """The spec that the API server takes.

    Raises:
        KubeError: the refusal, if it is about something else.
    """
    try:
        return reshaped(found["spec"], _SPECS[found["kind"]].model_validate(found["spec"]))
    except (KeyError, ValidationError):
        raise refusal from None


def holders(held: Json) -> list[tuple[str, str]]:
    """(job id, workflow id) of each job that holds the object."""
    metadata = held["metadata"]
    told = metadata.get("annotations") or {}
    finalizers = metadata.get("finalizers") or []
    return [
        (job_id, told[each])
        for each in finalizers
        if (job_id := names.job_id_of(each)) and names.is_job_workflow_id(told.get(each, ""))
    ]


async def held_secrets(kube: Kube, label: str, namespaces: Iterable[str]) -> list[Json]:
    """Secrets by a label: of the whole cluster, or where the worker may not list these, of ``namespaces`` it may."""
    found = await _listed(kube, path("v1", "secrets"), label)
    if found is not None:
        return found
    each = [await _listed(kube, path("v1", "secrets", namespace), label) for namespace in sorted(set(namespaces))]
    return [secret for secrets in each for secret in secrets or []]


async def held_by_any(kube: Kube, vm_objects: list[Json], shared: Iterable[str]) -> list[Json]:
    """Secrets that any job holds: beside the SpotInstanceVMs ``vm_objects``, and in ``shared`` namespaces."""
    return await held_secrets(
        kube, names.LABEL_HELD, {*(each["metadata"]["namespace"] for each in vm_objects), *shared}
    )


async def _listed(kube: Kube, where: str, label: str) -> list[Json] | None:
    """List objects that have this label; None if it is forbidden."""
    try:
        return await kube.list(where, labelSelector=selector({label: None}))
    except KubeError as error:
        if error.status == 403:
            return None
        raise
