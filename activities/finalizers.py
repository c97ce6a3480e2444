"""Our finalizers on what a job needs for its teardown: Secrets and the SpotInstanceVM must outlive its VMs.

Beside the finalizer stands a label with the same key, so that what a job holds is found again by the server's index,
also after a spec was edited and names other objects.
"""

from api import names
from clients.kube import Json, Kube, KubeError

TRIES = 5


async def hold(kube: Kube, where: str, job_id: str) -> Json | None:
    """Put the job's finalizer on the object at ``where`` and return it; None where it is not there, or going."""
    finalizer = names.job_finalizer(job_id)
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
        change = {"finalizers": [*finalizers, finalizer], "labels": {finalizer: ""}}
        if await _change(kube, where, metadata, change):
            return found
    raise TimeoutError(f"{where} is changed by others all the time: the finalizer {finalizer} could not be added")


async def let_go(kube: Kube, where: str, finalizer: str) -> None:
    """Take ``finalizer`` off the object at ``where``, with its label; not-found and not-held are success."""
    for _ in range(TRIES):
        found = await kube.find(where)
        if found is None:
            return
        metadata = found["metadata"]
        finalizers = metadata.get("finalizers") or []
        if finalizer not in finalizers and finalizer not in (metadata.get("labels") or {}):
            return
        kept = [each for each in finalizers if each != finalizer]
        if await _change(kube, where, metadata, {"finalizers": kept, "labels": {finalizer: None}}):
            return
    raise TimeoutError(f"{where} is changed by others all the time: the finalizer {finalizer} could not be removed")


async def _change(kube: Kube, where: str, metadata: Json, change: Json) -> bool:
    """Patch the metadata that was read; False where somebody else was quicker."""
    try:
        await kube.patch(where, {"metadata": {"resourceVersion": metadata["resourceVersion"], **change}})
    except KubeError as error:
        if error.status in (404, 409):
            return False
        raise
    return True
