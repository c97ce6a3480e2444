"""What is read from a job's documents, checked before money is spent, and reported to people."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from activities.signatures.base import Done, JobRef, Signature
from api import conditions
from api.common import Condition, SecretReference
from api.cost import CostRecord
from api.market import Candidate
from api.model import Model
from api.spot_instance_job import SpotInstanceJobSpec, SpotInstanceJobStatus
from api.spot_instance_vm import ProvisionedInstance, SpotInstanceVMSpec
from api.timings import Timings


class NotLent(Model):
    """What a job would reach as the worker, and may not by the settings; ``problem`` says so.

    A job that was accepted before keeps what it had: its workflow knows.
    """

    wanted: str
    problem: Condition


class Hold(Model):
    """Whoever holds each Job of this SpotInstanceJob, for example a queue, and the labels by which it does so."""

    by: str
    labels: dict[str, str] = {}
    suspends: bool = True  # False: its pods are held, by scheduling gates
    served: bool = True  # False: it is a queue of Kueue, and the cluster had no Kueue when the job was read


class LoadJob(JobRef):
    """A job to be read again and again; ``known`` is the digest of the specs that its run has read already."""

    known: str = ""


class JobDocument(Model):
    """The job as it is in the cluster now, with what it names."""

    exists: bool
    deleting: bool = False
    generation: int = 0
    spec: SpotInstanceJobSpec | None = None
    vm_spec: SpotInstanceVMSpec | None = None
    digest: str = ""  # of the two specs
    unchanged: bool = False  # they are those that are known, and not given again: each may have hundreds of kilobytes
    timings: Timings = Timings()
    warnings: list[str] = Field([], alias="remarks")  # what a person should know about it, though nothing is wrong
    problems: list[Condition] = []  # why this document cannot be worked on: condition Accepted=False
    not_lent: list[NotLent] = []
    request: str | None = None  # the request annotation, shortened
    hold: Hold | None = None  # who will hold its Jobs, as far as is known before there is one
    searchable: bool = False  # the search attributes are registered, so its workflow may have them


class PatchSpec(Model):
    """Write a person's request, sent by signal or update, into the spec, so that kubectl and Temporal agree."""

    job: JobRef
    replicas: int | None = None
    suspend: bool | None = None


class ReleaseFinalizers(Model):
    """Remove the finalizers from what the job uses, and from the job itself if it is being deleted or has ended."""

    job: JobRef
    vm_name: str | None = None
    secrets: list[SecretReference] = []


class Stock(Model):
    """What exists in the cluster under a job's id, for a run that begins with the teardown."""

    jobs: list[str] = []
    replicas: list[tuple[int, int]] = []  # (replica, incarnation)
    checkpoints: list[str] = []
    nodes: list[str] = []
    machines: list[str] = []  # "zone/name" of VMs, from their Nodes and from the SpotInstanceVMs' status


class PreflightRequest(Model):
    """Check what has to be right before money is spent."""

    job: JobRef
    spec: SpotInstanceJobSpec
    vm_spec: SpotInstanceVMSpec
    candidates: list[Candidate]  # those that vm_spec allows
    fallbacks: list[Candidate] = []  # those that it allows once no spot VM can be bought
    again: bool = False  # the job is accepted, so another job's recent answer is enough


class Preflight(Model):
    """A condition for each check: CheckpointOperatorReady, RegistryReady, CredentialsReady, CloudReady …

    ``unfit`` lists the labels of the candidates on which no pod of the template can ever run.
    """

    conditions: list[Condition]
    unfit: list[str] = []

    @property
    def passed(self) -> bool:
        """True if nothing blocks a start on a machine that exists."""
        return all(each.status == "True" for each in self.conditions if each.type != conditions.MACHINE_FITS)

    @property
    def fits(self) -> bool:
        """True if a bought machine would be of use, as far as is known."""
        return all(each.status != "False" for each in self.conditions if each.type == conditions.MACHINE_FITS)


class JobEvent(Model):
    """A Kubernetes Event on the SpotInstanceJob."""

    type: Literal["Normal", "Warning"] = "Normal"
    reason: str
    message: str
    at: datetime


class Report(Model):
    """Write Events in their order, and the whole status by server-side apply; None leaves the status as it is.

    A missing or newer object is success.
    """

    job: JobRef
    events: list[JobEvent] = []
    status: SpotInstanceJobStatus | None = None


class RecordCost(Model):
    """Keep what a job has cost in its namespace, for the time after its object is gone."""

    namespace: str
    record: CostRecord


class WriteVmEntry(Model):
    """Write one entry of ``provisionedInstances``; None removes it."""

    namespace: str
    vm_name: str
    name: str
    entry: ProvisionedInstance | None


LOAD_JOB = Signature("load_job", LoadJob, JobDocument)
PATCH_SPEC = Signature("patch_spec", PatchSpec, Done)
TAKE_STOCK = Signature("take_stock", JobRef, Stock)
RELEASE_FINALIZERS = Signature("release_finalizers", ReleaseFinalizers, Done)

PREFLIGHT = Signature("preflight", PreflightRequest, Preflight, timeout=50)
CHECK_MACHINES = Signature("check_machines", PreflightRequest, Preflight, timeout=50)

REPORT = Signature("report", Report, Done, timeout=20)
RECORD_COST = Signature("record_cost", RecordCost, Done, timeout=10)
WRITE_VM_ENTRY = Signature("write_vm_entry", WriteVmEntry, Done, timeout=10)
