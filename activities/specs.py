"""The documents that people write: the SpotInstanceJob, what it names, and our finalizers on them."""

import asyncio

from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import finalizers
from activities.holds import hold_of, labels_for_queues, looked_after
from activities.identity import Grants, not_lent
from activities.pod_admission import PodAdmission
from activities.probes import remarks_on
from activities.secret import Sharing
from activities.signatures import (
    LOAD_JOB,
    PATCH_SPEC,
    RELEASE_FINALIZERS,
    TAKE_STOCK,
    CreateReplica,
    Done,
    JobDocument,
    JobRef,
    PatchSpec,
    PodVerdict,
    ReleaseFinalizers,
    Stock,
)
from activities.spec_checks import (
    SecretUse,
    format_problems,
    not_accepted,
    not_shared,
    secrets_in_use,
    spec_problems,
    too_large,
    unreadable,
    vm_problems,
)
from activities.template_checks import template_problems, template_remarks
from activities.volumes import look_at_volumes
from api import names
from api.common import Condition, SecretReference
from api.formats import misshapen
from api.identity import borrowed
from api.node_labels import ZONE
from api.projections import is_mirror
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec
from api.timings import Timings
from api.unkept import unkept
from clients.kube import Json, Kube, KubeError, path, selector


class SpecActivities:
    """Reads and patches the CRs. ``timings`` are the worker's: workflows take them from ``load_job``.

    ``sharing`` says whose Secrets a job of another namespace may name. What it may not is refused here, before a
    workflow knows of it: what a job was once granted its teardown keeps, or its machines could not be deleted.
    ``grants`` says who may do without Secrets of his own.

    ``kube`` may read and patch SpotInstanceJobs, SpotInstanceVMs and Secrets, list these by label, and create Jobs,
    and pods by a dry run; list pods and ResourceQuotas.
    """

    def __init__(
        self, kube: Kube, timings: Timings, sharing: Sharing | None = None, grants: Grants | None = None
    ) -> None:
        self._kube = kube
        self._grants = grants or Grants()
        self._timings = timings
        self._sharing = sharing or Sharing(kube)
        self._admission = PodAdmission(kube)

    @activity.defn(name=LOAD_JOB.name)
    async def load_job(self, job: JobRef) -> JobDocument:
        """Read the job and all it names, hold what its teardown needs, and say what cannot be worked with."""
        found = await self._find(job)
        if found is None:
            return JobDocument(exists=False, timings=self._timings)
        metadata = found["metadata"]
        document = JobDocument(
            exists=True,
            deleting="deletionTimestamp" in metadata,
            generation=metadata.get("generation", 0),
            timings=self._timings,
        )
        if problems := too_large("spec", found.get("spec") or {}):
            return document.model_copy(update={"problems": problems})
        try:
            spec = SpotInstanceJobSpec.model_validate(found.get("spec") or {})
        except ValidationError as error:
            return document.model_copy(update={"problems": [unreadable("spec", error)]})
        if document.deleting:
            vm, _ = await self._read_vm(job, spec, hold=False)
            return document.model_copy(update={"spec": spec, "vm_spec": vm})
        if problems := format_problems(spec):  # nothing is looked for under a name that is none
            return document.model_copy(update={"spec": spec, "problems": problems})
        vm, problems = await self._read_vm(job, spec, hold=True)
        uses = secrets_in_use(spec, None if problems else vm, job.namespace)
        problems += spec_problems(spec, vm, job.namespace) + template_problems(spec)
        permitted = await asyncio.gather(*(self._permits(job, use) for use in uses))
        problems += not_shared([use for use, good in zip(uses, permitted, strict=True) if not good], job.namespace)
        shared = [use for use, good in zip(uses, permitted, strict=True) if good]
        remarks = unkept(spec.job_template, metadata.get("labels") or {})
        remarks += remarks_on(spec, self._timings.checkpoint_step) + template_remarks(spec)
        used = (self._use(job, use, remarks) for use in shared)
        labels = labels_for_queues(metadata.get("labels") or {})
        verdict, others = await asyncio.gather(self._check_template(job, spec, labels), asyncio.gather(*used))
        problems += [] if verdict.admitted else [not_accepted(verdict.reason, verdict.message)]
        problems += [problem for each in others for problem in each]
        unusable, told = await look_at_volumes(self._kube, job.namespace, spec.pod, spec.replicas)
        problems += unusable
        remarks += [*told, *([verdict.remark] if verdict.remark else [])]
        refused = [each for each in borrowed(spec, vm) if not self._grants.permits(job.namespace, each)]
        hold = hold_of(spec.job_template, labels, verdict) if verdict.admitted else None
        hold = await looked_after(self._kube, hold)
        found = {"spec": spec, "vm_spec": vm, "problems": problems, "remarks": remarks, "hold": hold}
        return document.model_copy(update={**found, "not_lent": [not_lent(each, job.namespace) for each in refused]})

    async def _find(self, job: JobRef) -> Json | None:
        found = await self._kube.find(_job_path(job))
        return found if found is not None and found["metadata"]["uid"] == job.uid else None

    async def _read_vm(
        self, job: JobRef, spec: SpotInstanceJobSpec, hold: bool
    ) -> tuple[SpotInstanceVMSpec | None, list[Condition]]:
        name = spec.spot_instance_vm_ref.name
        if problems := format_problems(spec.spot_instance_vm_ref, "spotInstanceVMRef."):
            return None, problems
        where = _vm_path(job, name)
        try:
            found = await (finalizers.hold(self._kube, where, job) if hold else self._kube.find(where))
        except KubeError as error:
            if error.status != 422:
                raise
            return None, [not_accepted("InvalidSpec", f"SpotInstanceVM {name}: {error.message}")]
        if found is None:
            message = f"there is no SpotInstanceVM {job.namespace}/{name}: create it, or correct spotInstanceVMRef"
            return None, [not_accepted("VMNotFound", message)]
        if problems := too_large(f"SpotInstanceVM {name}", found.get("spec") or {}):
            return None, problems
        try:
            vm = SpotInstanceVMSpec.model_validate(found.get("spec") or {})
        except ValidationError as error:
            return None, [unreadable(f"SpotInstanceVM {name}", error)]
        return vm, format_problems(vm, f"SpotInstanceVM {name}: ") + vm_problems(vm, f"SpotInstanceVM {name}")

    async def _permits(self, job: JobRef, use: SecretUse) -> bool:
        """True if the job may use a Secret, also if it does already: what it was granted it keeps."""
        reference = SecretReference(name=use.name, namespace=use.namespace)
        return await self._sharing.permits(reference, job.namespace, names.job_finalizer(job.job_id))

    async def _use(self, job: JobRef, use: SecretUse, remarks: list[str]) -> list[Condition]:
        """Hold a Secret and look at its keys; its values stay here. What is to be said of it goes into ``remarks``."""
        found = await finalizers.hold(self._kube, path("v1", "secrets", use.namespace, use.name), job)
        if found is None:
            message = f"there is no Secret {use.namespace}/{use.name}: create it, or correct {use.field}"
            return [] if use.optional else [not_accepted("SecretNotFound", message)]
        lacking = [key for key in use.keys if not (found.get("data") or {}).get(key)]
        remarks += [use.remark] if use.remark and not lacking else []
        if not lacking or use.optional:
            return []
        message = f"Secret {use.namespace}/{use.name}, named by {use.field}, lacks the key {' and '.join(lacking)}"
        return [not_accepted("SecretIncomplete", message)]

    async def _check_template(self, job: JobRef, spec: SpotInstanceJobSpec, labels: dict[str, str]) -> PodVerdict:
        """Let the API server judge the Job that we would create, and its pod; unknown fields count, as with kubectl."""
        try:
            first = CreateReplica.of(job, spec, replica=0, incarnation=0, nodes=["any"], bought=True, labels=labels)
            return await self._admission.judge(first, range(1, spec.replicas), remark_only=True)
        except ApplicationError:  # checkpointImageRepo is no repository: told as a problem of the spec
            return PodVerdict(admitted=True)

    @activity.defn(name=PATCH_SPEC.name)
    async def patch_spec(self, request: PatchSpec) -> Done:
        """Write a person's wish into the spec; a job that is gone, or another's by now, is success."""
        found = await self._find(request.job)
        if found is None:
            return Done()
        wish = {"replicas": request.replicas, "suspend": request.suspend}
        change = {
            # Where it is another's by the time of the write, or was edited, this is refused and the retry reads again.
            "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
            "spec": {key: value for key, value in wish.items() if value is not None},
        }
        try:
            await self._kube.patch(_job_path(request.job), change)
        except KubeError as error:
            if error.status != 404:
                raise
        return Done()

    @activity.defn(name=TAKE_STOCK.name)
    async def take_stock(self, job: JobRef) -> Stock:
        """List what carries the job's id."""
        backups = f"{names.CHECKPOINT_GROUP}/{names.CHECKPOINT_VERSION}"
        jobs, pods, checkpoints, nodes, vms = await asyncio.gather(
            self._ours(path("batch/v1", "jobs", job.namespace), job),
            self._ours(path("v1", "pods", job.namespace), job),
            self._ours(path(backups, names.CHECKPOINT_PLURAL, job.namespace), job),
            self._ours(path("v1", "nodes"), job),
            self._kube.list(path(names.API_VERSION, names.VM_PLURAL, job.namespace)),
        )
        pods = [pod for pod in pods if not is_mirror(pod)]
        nodes = [node for node in nodes if _is_bought_for(job, _name(node))]
        return Stock(
            jobs=[_name(each) for each in jobs],
            replicas=sorted({which for each in [*jobs, *pods] if (which := _which(each)) is not None}),
            checkpoints=[name for each in checkpoints if _asked_for_by(job, name := _name(each))],
            nodes=[_name(each) for each in nodes],
            machines=_machines(job, nodes, vms),
        )

    async def _ours(self, where: str, job: JobRef) -> list[Json]:
        """Objects with the job's id; none of a kind that the cluster does not know."""
        try:
            return await self._kube.list(where, labelSelector=selector({names.LABEL_JOB: job.job_id}))
        except KubeError as error:
            if error.status == 404:
                return []
            raise

    @activity.defn(name=RELEASE_FINALIZERS.name)
    async def release_finalizers(self, request: ReleaseFinalizers) -> Done:
        """Let go of everything that the job holds, and of the job itself last: after that nobody comes back."""
        job, finalizer = request.job, names.job_finalizer(request.job.job_id)
        vms = path(names.API_VERSION, names.VM_PLURAL, job.namespace)
        named = {(each.namespace or job.namespace, each.name) for each in request.secrets if not misshapen(each)}
        namespaces = {job.namespace, *self._sharing.namespaces, *(namespace for namespace, _ in named)}
        secrets = await finalizers.held_secrets(self._kube, finalizer, namespaces)
        held = {_path_of("v1", "secrets", each) for each in secrets}
        held |= {path("v1", "secrets", *each) for each in named}
        machines = await self._kube.list(vms, labelSelector=selector({finalizer: None}))
        held |= {_path_of(names.API_VERSION, names.VM_PLURAL, each) for each in machines}
        if request.vm_name is not None and names.is_segment(request.vm_name):
            held.add(_vm_path(job, request.vm_name))
        await asyncio.gather(*(finalizers.let_go(self._kube, where, finalizer) for where in sorted(held)))
        if await self._find(job) is not None:
            await finalizers.let_go(self._kube, _job_path(job), names.FINALIZER)
        return Done()


def _asked_for_by(job: JobRef, backup: str) -> bool:
    """Not a copy under another name that somebody made, labels and all."""
    number = names.checkpoint_number(backup)
    return number is not None and backup == names.checkpoint_name(job.name, job.job_id, number)


def _is_bought_for(job: JobRef, node: str) -> bool:
    """By the name, which is that of its certificate; root on a Node labels it as it likes."""
    key = names.vm_key_of(node)
    return key is not None and names.job_id_in(key) == job.job_id


def _job_path(job: JobRef) -> str:
    return path(names.API_VERSION, names.JOB_PLURAL, job.namespace, job.name)


def _vm_path(job: JobRef, name: str) -> str:
    return path(names.API_VERSION, names.VM_PLURAL, job.namespace, name)


def _path_of(api_version: str, plural: str, found: Json) -> str:
    return path(api_version, plural, found["metadata"]["namespace"], found["metadata"]["name"])


def _name(found: Json) -> str:
    return str(found["metadata"]["name"])


def _which(found: Json) -> tuple[int, int] | None:
    return names.incarnation_in(found["metadata"].get("labels") or {})


def _machines(job: JobRef, nodes: list[Json], vms: list[Json]) -> list[str]:
    """ "zone/name" of each VM: one that is still being made has no Node, one whose entry could not be written has.

    Both are written by others, too, and VMs are deleted by them: what has not our names' form or no zone's is left out.
    """
    found = {_name(node): node["metadata"]["labels"].get(ZONE) for node in nodes}
    for vm in vms:
        entries = (vm.get("status") or {}).get("provisionedInstances") or []
        found |= {entry["name"]: entry.get("zone") for entry in entries}
    return sorted(f"{zone}/{name}" for name, zone in found.items() if names.is_zone(zone) and _is_bought_for(job, name))
