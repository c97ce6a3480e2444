"""What is read of a job's documents, checked before money is spent, and told to people."""

from datetime import datetime
from typing import Literal

from activities.signatures.base import Done, JobRef, Signature
from api.common import MACHINE_FITS, Condition, SecretReference
from api.market import Candidate
from api.model import Model
from api.spot_instance_job import SpotInstanceJobSpec, SpotInstanceJobStatus
from api.spot_instance_vm import ProvisionedInstance, SpotInstanceVMSpec
from api.timings import Timings


class NotLent(Model):
    """What a job would reach as the worker, and may not by the settings; ``problem`` says so.

    A job that was admitted before keeps what it had: its workflow knows.
    """

    wanted: str
    problem: Condition


class Hold(Model):
    """Whoever holds each Job of this SpotInstanceJob, for example a queue, and the labels by which it does."""

    by: str
    labels: dict[str, str] = {}
    suspends: bool = True  # False: its pods are held, by scheduling gates
    served: bool = True  # False: it is a queue of Kueue's, and the cluster had no Kueue when the job was read


class JobDocument(Model):
    """The job as it stands in the cluster now, with what it names."""

    exists: bool
    deleting: bool = False
    generation: int = 0
    spec: SpotInstanceJobSpec | None = None
    vm_spec: SpotInstanceVMSpec | None = None
    timings: Timings = Timings()
    remarks: list[str] = []  # what a person should know of what it names, though nothing is wrong with it
    problems: list[Condition] = []  # why this document cannot be worked on: condition Accepted=False
    not_lent: list[NotLent] = []
    hold: Hold | None = None  # whether its Jobs come suspended, as far as is known before there is one


class PatchSpec(Model):
    """A person's wish told by signal becomes the CR's, so that kubectl and Temporal agree."""

    job: JobRef
    replicas: int | None = None
    suspend: bool | None = None


class ReleaseFinalizers(Model):
    """The last act: the finalizers on what the job uses and, where it is being deleted or over, on itself."""

    job: JobRef
    vm_name: str | None = None
    secrets: list[SecretReference] = []


class Stock(Model):
    """What exists in the cluster under a job's id, for a run that begins with the teardown."""

    jobs: list[str] = []
    replicas: list[tuple[int, int]] = []  # (replica, incarnation)
    checkpoints: list[str] = []
    nodes: list[str] = []
    machines: list[str] = []  # "zone/name" of VMs, by their Nodes and by what they wrote into a SpotInstanceVM's status


class PreflightRequest(Model):
    """What has to be right before money is spent."""

    job: JobRef
    spec: SpotInstanceJobSpec
    vm_spec: SpotInstanceVMSpec
    candidates: list[Candidate]  # that vm_spec allows
    fallbacks: list[Candidate] = []  # that it allows once no spot VM can be had
    again: bool = False  # it is admitted: what another job was told lately will do


class Preflight(Model):
    """A condition for each thing looked at: CheckpointOperatorReady, RegistryReady, CredentialsReady, CloudReady …

    ``unfit`` are the labels of the candidates on which no pod of the template can ever run.
    """

    conditions: list[Condition]
    unfit: list[str] = []

    @property
    def passed(self) -> bool:
        """True if nothing stands in the way of a start on a machine that exists."""
        return all(each.status == "True" for each in self.conditions if each.type != MACHINE_FITS)

    @property
    def fits(self) -> bool:
        """True if a machine that is bought would be of use, as far as is known."""
        return all(each.status != "False" for each in self.conditions if each.type == MACHINE_FITS)


class JobEvent(Model):
    """A Kubernetes Event on the SpotInstanceJob."""

    type: Literal["Normal", "Warning"] = "Normal"
    reason: str
    message: str
    at: datetime


class Report(Model):
    """Events in their order, and the whole status, applied server-side by one field manager; None: as it is.

    A missing or newer object is success.
    """

    job: JobRef
    events: list[JobEvent] = []
    status: SpotInstanceJobStatus | None = None


class WriteVmEntry(Model):
    """One entry of ``provisionedInstances``; None takes it away."""

    namespace: str
    vm_name: str
    name: str
    entry: ProvisionedInstance | None


LOAD_JOB = Signature("load_job", JobRef, JobDocument)
PATCH_SPEC = Signature("patch_spec", PatchSpec, Done)
TAKE_STOCK = Signature("take_stock", JobRef, Stock)
RELEASE_FINALIZERS = Signature("release_finalizers", ReleaseFinalizers, Done)

PREFLIGHT = Signature("preflight", PreflightRequest, Preflight, timeout=50)
CHECK_MACHINES = Signature("check_machines", PreflightRequest, Preflight, timeout=50)

REPORT = Signature("report", Report, Done, timeout=20)
WRITE_VM_ENTRY = Signature("write_vm_entry", WriteVmEntry, Done, timeout=10)
