"""Read a SpotInstanceJob and the SpotInstanceVM that it names. One that cannot be read is a problem with its remedy."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import ValidationError

from activities.documents.checks import format_problems, too_large, unreadable, vm_problems
from activities.signatures import JobRef
from api import names, reasons
from api.common import Condition, not_accepted
from api.model import Model
from api.spot_instance_job import LONGEST_REQUEST, SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec
from clients.kube import Json, Kube, path

Spec = TypeVar("Spec", bound=Model)

ANSWERED = frozenset({"Done", "Failed", "Refused"})
"""States of a request that nothing more becomes of."""


@dataclass(frozen=True)
class Read(Generic[Spec]):
    """A spec, as it was read.

    Attributes:
        spec: None if it does not exist or cannot be read.
        problems: why it cannot be worked with.
        found: the whole object; None if it does not exist.
    """

    spec: Spec | None = None
    problems: list[Condition] = field(default_factory=list)
    found: Json | None = None


class Reader:
    """Reads documents. Jobs that read a shared object at the same time read it once.

    Args:
        kube: the cluster, in which it may read SpotInstanceJobs, SpotInstanceVMs and Secrets.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def job(self, job: JobRef) -> Json | None:
        """Read the job; None if it is gone, or another one has its name."""
        found = await self._kube.find(job_path(job))
        return found if found is not None and found["metadata"]["uid"] == job.uid else None

    async def vm(self, job: JobRef, spec: SpotInstanceJobSpec) -> Read[SpotInstanceVMSpec]:
        """Read the SpotInstanceVM that a job names."""
        name = spec.spot_instance_vm_ref.name
        if problems := format_problems(spec.spot_instance_vm_ref, "spotInstanceVMRef."):
            return Read(problems=problems)
        found = await self._kube.shared(vm_path(job, name))
        return vm_not_found(job, name) if found is None else vm_spec_of(found)


def job_spec_of(found: Json) -> Read[SpotInstanceJobSpec]:
    """Read the spec of a job."""
    given = found.get("spec") or {}
    if problems := too_large("spec", given):
        return Read(problems=problems, found=found)
    try:
        return Read(SpotInstanceJobSpec.model_validate(given), found=found)
    except ValidationError as error:
        return Read(problems=[unreadable("spec", error)], found=found)


def open_request(found: Json) -> str | None:
    """Read a job's request annotation: no more of it than shows that it is too long.

    One that the status says is answered is left out: a workflow that was reset does not know that it has answered it.
    """
    value: str | None = (found["metadata"].get("annotations") or {}).get(names.ANNOTATION_REQUEST)
    told = (found.get("status") or {}).get("request") or {}
    if not value or (told.get("value") == value[:LONGEST_REQUEST] and told.get("state") in ANSWERED):
        return None
    return value[: LONGEST_REQUEST + 1]


def vm_spec_of(found: Json) -> Read[SpotInstanceVMSpec]:
    """Read the spec of a SpotInstanceVM."""
    given, kind = found.get("spec") or {}, f"SpotInstanceVM {found['metadata']['name']}"
    if problems := too_large(kind, given):
        return Read(problems=problems, found=found)
    try:
        spec = SpotInstanceVMSpec.model_validate(given)
    except ValidationError as error:
        return Read(problems=[unreadable(kind, error)], found=found)
    return Read(spec, format_problems(spec, f"{kind}: ") + vm_problems(spec, kind), found)


def vm_not_found(job: JobRef, name: str) -> Read[SpotInstanceVMSpec]:
    """Say that a SpotInstanceVM does not exist."""
    message = f"there is no SpotInstanceVM {job.namespace}/{name}: create it, or correct spotInstanceVMRef"
    return Read(problems=[not_accepted(reasons.VM_NOT_FOUND, message)])


def job_path(job: JobRef) -> str:
    """Give the path of a SpotInstanceJob."""
    return path(names.API_VERSION, names.JOB_PLURAL, job.namespace, job.name)


def vm_path(job: JobRef, name: str) -> str:
    """Give the path of a SpotInstanceVM in the job's namespace."""
    return path(names.API_VERSION, names.VM_PLURAL, job.namespace, name)
