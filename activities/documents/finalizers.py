"""Our finalizers on what a job needs for its teardown: Secrets and the SpotInstanceVM must outlive the job's VMs.

A label and an annotation with the finalizer's key go with it. By the label, the server's index finds what a job
protects, even after its spec was edited and names other objects. The annotation names the job's workflow. A second
label, the same for all jobs, lets the sweep find what any job protects.

Each job has a finalizer of its own, so no count can be wrong, and nobody removes another's. Jobs that share an object
are written together.
"""

import logging

from pydantic import ValidationError

from activities.kubernetes.coalesced import Coalesced
from activities.signatures import JobRef
from api import names
from api.formats import reshaped
from api.model import Model
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec
from clients.changes import change, write_current
from clients.kube import Json, Kube, KubeError, of_version

_SPECS: dict[str, type[Model]] = {"SpotInstanceJob": SpotInstanceJobSpec, "SpotInstanceVM": SpotInstanceVMSpec}

log = logging.getLogger(__name__)


class Finalizers:
    """Adds and removes the finalizers of all jobs of this process.

    Args:
        kube: the cluster, in which it may read and patch what jobs protect.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._additions = Coalesced(self._add)
        self._removals = Coalesced(self._remove)

    async def add(self, where: str, found: Json, job: JobRef) -> bool:
        """Protect the object at ``where``, which was just ``found``, for a job.

        Returns:
            False if it is gone, or is being deleted, when no finalizer can be added any more.
        """
        finalizer = names.job_finalizer(job.job_id)
        if finalizer in _finalizers(found):
            return True
        if "deletionTimestamp" in found["metadata"]:
            return False
        workflow_id = names.job_workflow_id(job.namespace, job.name)
        now = await self._additions.ask(where, (finalizer, workflow_id))
        return now is not None and finalizer in _finalizers(now)

    async def remove(self, where: str, finalizer: str) -> None:
        """Remove ``finalizer`` with its label and annotation from the object at ``where``, if it exists and has it."""
        await self._removals.ask(where, finalizer)

    async def _add(self, where: str, wanted: list[tuple[str, str]]) -> Json | None:
        return await change(
            self._kube, where, lambda found: _with(found, dict(wanted)), "the finalizers of jobs could not be added"
        )

    async def _remove(self, where: str, unwanted: list[str]) -> None:
        """Remove finalizers.

        Before Kubernetes 1.30 the API server validates the whole object at each change. An object that was stored
        before the CRD had its formats may break them, and could never be deleted. Nobody uses its spec any more once it
        is being deleted, so the same change replaces what is wrong by an example. An object that is not being deleted
        keeps spec and finalizers; the sweep removes the finalizers later.
        """

        async def write(found: Json) -> None:
            patch = _without(found, set(unwanted))
            if patch is None:
                return
            try:
                await self._kube.patch(where, of_version(found, patch))
            except KubeError as error:
                if error.status != 422:
                    raise
                if "deletionTimestamp" not in found["metadata"]:
                    log.warning("%s keeps %s until it is deleted: %s", where, ", ".join(unwanted), error.message)
                    return
                await self._kube.patch(where, of_version(found, {**patch, "spec": _repaired(found, error)}))

        await write_current(self._kube, where, write, "the finalizers of jobs could not be removed")


def _finalizers(found: Json) -> list[str]:
    return found["metadata"].get("finalizers") or []


def _with(found: Json, wanted: dict[str, str]) -> Json | None:
    """Build the patch that adds finalizers, each with its workflow's id; None if there is nothing to add."""
    there = _finalizers(found)
    missing = {finalizer: workflow_id for finalizer, workflow_id in wanted.items() if finalizer not in there}
    if not missing or "deletionTimestamp" in found["metadata"]:
        return None
    labels = {names.LABEL_PROTECTED: "", **dict.fromkeys(missing, "")}
    return {"metadata": {"finalizers": [*there, *missing], "labels": labels, "annotations": missing}}


def _without(found: Json, unwanted: set[str]) -> Json | None:
    """Build the patch that removes finalizers, and none besides; None if the object has none of them."""
    there, labels = _finalizers(found), found["metadata"].get("labels") or {}
    gone = sorted(each for each in unwanted if each in there or each in labels)
    if not gone:
        return None
    kept = [each for each in there if each not in gone]
    protected = {} if any(map(names.job_id_of, kept)) else {names.LABEL_PROTECTED: None}
    nothing: Json = dict.fromkeys(gone)
    return {"metadata": {"finalizers": kept, "labels": {**nothing, **protected}, "annotations": nothing}}


def _repaired(found: Json, refusal: KubeError) -> Json:
    """Build the spec that the API server accepts.

    Raises:
        KubeError: the refusal, if it has another reason.
    """
    try:
        return reshaped(found["spec"], _SPECS[found["kind"]].model_validate(found["spec"]))
    except (KeyError, ValidationError):
        raise refusal from None
