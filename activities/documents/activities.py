"""The activities on the documents that people write: the SpotInstanceJob, what it names, and our finalizers."""

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

from temporalio import activity

from activities.documents.admission import Admission
from activities.documents.checks import format_problems, secrets_in_use, spec_problems
from activities.documents.finalizers import Finalizers
from activities.documents.findings import Findings, together
from activities.documents.gang_checks import check_gang
from activities.documents.identity import Grants, not_lent
from activities.documents.inventory import inventory_of
from activities.documents.protection import Protection
from activities.documents.reader import Reader, job_path, job_spec_of, open_request
from activities.documents.reconcile_time import record_read
from activities.documents.release import Release
from activities.documents.template_checks import template_problems, template_warnings
from activities.kubernetes.secret import Sharing
from activities.preflight.volumes import look_at_volumes
from activities.replicas.probes import warnings_on
from activities.signatures import (
    LOAD_JOB,
    PATCH_SPEC,
    RELEASE_FINALIZERS,
    TAKE_STOCK,
    Done,
    JobDocument,
    JobRef,
    LoadJob,
    PatchSpec,
    ReleaseFinalizers,
    Stock,
)
from api.identity import borrowed
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec
from api.timings import Timings
from api.unkept import unkept
from clients.changes import change
from clients.kube import Json, Kube
from clients.search_attributes import Registration


class SpecActivities:
    """Reads and patches the CRs.

    ``timings`` are the worker's, which workflows receive from ``load_job``. ``sharing`` says whose Secrets a job of
    another namespace may name. What it may not name is refused here, before a workflow knows of it. A teardown keeps
    what its job was once granted, because the machines could not be deleted without it. ``grants`` says which
    namespaces may use the worker's own identity. ``attributes`` says whether search attributes are registered.

    ``kube`` may read and patch SpotInstanceJobs, SpotInstanceVMs and Secrets, and list these by label. It may create
    Jobs, and pods by a dry run, and list pods and ResourceQuotas.
    """

    def __init__(
        self,
        kube: Kube,
        timings: Timings,
        sharing: Sharing | None = None,
        grants: Grants | None = None,
        attributes: Registration | None = None,
    ) -> None:
        sharing = sharing or Sharing(kube)
        self._kube = kube
        self._attributes = attributes or Registration()
        self._grants = grants or Grants()
        self._timings = timings
        self._reader = Reader(kube)
        finalizers = Finalizers(kube)
        self._protection = Protection(kube, finalizers, sharing)
        self._admission = Admission(kube, remembered_for=timings.recheck)
        self._release = Release(kube, self._reader, finalizers, sharing.namespaces)

    @activity.defn(name=LOAD_JOB.name)
    async def load_job(self, job: LoadJob) -> JobDocument:
        """Read the job and all it names, protect what its teardown needs, and say what cannot be worked with."""
        found = await self._reader.job(job)
        if found is None:
            return JobDocument(exists=False, timings=self._timings)
        await record_read(self._kube, job, found, timedelta(seconds=self._timings.resync))
        return without_the_known(await self._load(job, found), job.known)

    async def _load(self, job: JobRef, found: Json) -> JobDocument:
        document = JobDocument(
            exists=True,
            deleting="deletionTimestamp" in found["metadata"],
            generation=found["metadata"].get("generation", 0),
            timings=self._timings,
            searchable=self._attributes.registered,
            request=open_request(found),
        )
        read = job_spec_of(found)
        if read.spec is None:
            return document.model_copy(update={"problems": read.problems})
        document = document.model_copy(update={"spec": read.spec})
        if document.deleting:
            return document.model_copy(update={"vm_spec": (await self._reader.vm(job, read.spec)).spec})
        if problems := format_problems(read.spec):  # nothing is looked up under a malformed name
            return document.model_copy(update={"problems": problems})
        return document.model_copy(update=await self._judge(job, read.spec, found))

    async def _judge(self, job: JobRef, spec: SpotInstanceJobSpec, found: Json) -> dict[str, Any]:
        """Protect what the job names, and say what is wrong and what a person should know."""
        vm = await self._protection.vm(job, await self._reader.vm(job, spec))
        uses = secrets_in_use(spec, None if vm.problems else vm.spec, job.namespace)
        (references, secrets), (admission, hold), volumes, members = await asyncio.gather(
            self._protection.secrets(job, uses),
            self._admission.judge(job, spec, found),
            look_at_volumes(self._kube, job.namespace, spec.pod, spec.replicas, spec.members),
            check_gang(self._kube, spec),
        )
        written = self._what_is_written(job, spec, vm.spec, found) + members
        told = together([Findings(vm.problems), written, references, admission, secrets, Findings(*volumes)])
        refused = [each for each in borrowed(spec, vm.spec) if not self._grants.permits(job.namespace, each)]
        return {
            "vm_spec": vm.spec,
            "problems": told.problems,
            "warnings": told.warnings,
            "not_lent": [not_lent(each, job.namespace) for each in refused],
            "hold": hold,
        }

    def _what_is_written(
        self, job: JobRef, spec: SpotInstanceJobSpec, vm: SpotInstanceVMSpec | None, found: Json
    ) -> Findings:
        """Check what the specs themselves say."""
        warnings = unkept(spec.job_template, found["metadata"].get("labels") or {})
        warnings += warnings_on(spec, self._timings.checkpoint_step) + template_warnings(spec)
        return Findings(spec_problems(spec, vm, job.namespace) + template_problems(spec), warnings)

    @activity.defn(name=PATCH_SPEC.name)
    async def patch_spec(self, request: PatchSpec) -> Done:
        """Write a person's request into the spec; a job that is gone, or replaced by another, is success."""
        wanted = {"replicas": request.replicas, "suspend": request.suspend}
        spec = {key: value for key, value in wanted.items() if value is not None}

        def edited(found: Json) -> Json | None:
            return {"spec": spec} if found["metadata"]["uid"] == request.job.uid else None

        await change(self._kube, job_path(request.job), edited, "the request could not be written into the spec")
        return Done()

    @activity.defn(name=TAKE_STOCK.name)
    async def take_stock(self, job: JobRef) -> Stock:
        """List what bears the job's id."""
        return await inventory_of(self._kube, job)

    @activity.defn(name=RELEASE_FINALIZERS.name)
    async def release_finalizers(self, request: ReleaseFinalizers) -> Done:
        """Remove the finalizers from all that the job protects, and last from the job itself, its last act."""
        await self._release.release(request)
        return Done()


def without_the_known(document: JobDocument, known: str) -> JobDocument:
    """Leave out specs that the reader knows: a history keeps each answer, and a job is read for months."""
    if document.spec is None:
        return document
    text = document.model_dump_json(include={"spec", "vm_spec"})
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    repeated = {"spec": None, "vm_spec": None, "unchanged": True} if digest == known else {}
    return document.model_copy(update={"digest": digest, **repeated})
