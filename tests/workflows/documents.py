"""The world's API server as the job's documents see it: the SpotInstanceJob, what it names, its status and Events."""

import uuid
from collections.abc import Callable
from typing import Any

from temporalio.exceptions import ApplicationError

from activities import signatures as act
from activities.documents.activities import without_the_known
from api import conditions, errors, names, reasons
from api.common import Condition, not_accepted
from api.cost import CostRecord
from api.identity import borrowed
from api.market import Candidate
from api.messages import JobStart, RequestChanged, SpecChanged
from api.spot_instance_job import SpotInstanceJobSpec, SpotInstanceJobStatus
from api.spot_instance_vm import ProvisionedInstance, SpotInstanceVMSpec
from api.timings import Timings
from tests.workflows.checkpoints import REPOSITORY, Checkpoints
from tests.workflows.cluster import Cluster

CLUSTER_ID = "0b0e7a52-4fcb-4f7e-9d3e-0c2b6d1f5a11"
NAMESPACE = "team"
NAME = "llm"
OFTEN = Timings(preempted_poll=0, resync=300, owner_check=600)
"""Regular looks that come more often than by default, so that a story of lost messages is short."""
RECENT = 200  # how many Events a retry may repeat


def vm_spec(*, more: dict[str, Any] | None = None, **gcp: Any) -> SpotInstanceVMSpec:
    """Make a SpotInstanceVM as people write it; ``more`` goes beside ``gcp``."""
    return SpotInstanceVMSpec.model_validate(
        {
            "vmImage": "gpu-node",
            "gpu": {"type": "nvidia-tesla-t4", "count": 1},
            "gcp": {"project": "p", "zone": "us-central1-a", "machineType": "n1-standard-4", **gcp},
            **(more or {}),
        }
    )


VM_SPEC = vm_spec()


def job_spec(**changes: Any) -> SpotInstanceJobSpec:
    """Make a SpotInstanceJob as people write it; ``checkpoint`` changes its checkpointConfig."""
    config = {
        "checkpointImageRepo": REPOSITORY,
        "checkpointInterval": "10m",
        "progress": {"logPattern": r"step=(\d+)"},
        **changes.pop("checkpoint", {}),
    }
    template = {"spec": {"template": {"spec": {"containers": [{"name": "train", "image": "train:1"}]}}}}
    return SpotInstanceJobSpec.model_validate(
        {
            "jobTemplate": template,
            "checkpointConfig": config,
            "spotInstanceVMRef": {"name": "gpu"},
            "gcpCredentialsSecretRef": {"name": "gcp"},
            **changes,
        }
    )


class Documents:
    """One SpotInstanceJob and what it names."""

    def __init__(self, cluster: Cluster, checkpoints: Checkpoints, tell: Any) -> None:
        self.cluster = cluster
        self.checkpoints = checkpoints
        self.tell = tell
        self.namespace = NAMESPACE
        self.name = NAME
        self.uid = str(uuid.UUID(int=7))
        self.spec = job_spec()
        self.vm_spec: SpotInstanceVMSpec | None = VM_SPEC
        self.timings = OFTEN
        self.generation = 1
        self.vm_generation = 1
        self.exists = True
        self.deleting = False
        self.missing: str | None = None  # a Secret that the spec names and that does not exist
        self.not_lent: set[str] = set()  # parts of the worker's identity that the settings lend to nobody
        self.unlisted_reasons: set[tuple[str, str]] = (
            set()
        )  # of conditions, which api/reasons.py does not list for them
        self.warnings: list[str] = []  # of what the spec names
        self.hold: act.Hold | None = None  # who holds the Jobs of this one, as far as is known before there is one
        self.requested: str | None = None  # the request annotation
        self.failing_checks: set[str] = set()  # conditions of the preflight that are False
        # Why the pod can never run on a candidate.
        self.misfit: Callable[[Candidate], str | None] = lambda candidate: None
        self.status = SpotInstanceJobStatus()
        self.statuses: list[SpotInstanceJobStatus] = []
        self.events: list[act.JobEvent] = []
        self.entries: dict[str, ProvisionedInstance] = {}
        self.costs: dict[str, CostRecord] = {}
        self.released: act.ReleaseFinalizers | None = None

    @property
    def start(self) -> JobStart:
        """Return the input of its workflow."""
        return JobStart(
            namespace=self.namespace, name=self.name, uid=self.uid, cluster_id=CLUSTER_ID, job_id=self.job_id
        )

    @property
    def job_id(self) -> str:
        """Return the id in the names of what belongs to the job."""
        return names.job_id(CLUSTER_ID, self.uid)

    # --- activities

    def load_job(self, request: act.LoadJob) -> act.JobDocument:
        return without_the_known(self._document(), request.known)

    def _document(self) -> act.JobDocument:
        if not self.exists:
            return act.JobDocument(exists=False)
        problems = []
        if self.vm_spec is None:
            problems.append(not_accepted(reasons.VM_NOT_FOUND, "create SpotInstanceVM team/gpu"))
        if self.missing:
            problems.append(not_accepted(reasons.SECRET_NOT_FOUND, f"create Secret team/{self.missing}"))
        if self.cluster.refuses_pods:
            problems.append(not_accepted(reasons.POD_REFUSED, self.cluster.refuses_pods))
        return act.JobDocument(
            exists=True,
            deleting=self.deleting,
            generation=self.generation,
            spec=self.spec,
            vm_spec=self.vm_spec,
            timings=self.timings,
            searchable=True,
            request=self.requested,
            warnings=self.warnings,
            hold=self.hold,
            problems=problems,
            not_lent=[
                act.NotLent(wanted=each, problem=not_accepted(reasons.IDENTITY_NOT_LENT, f"write {each}"))
                for each in borrowed(self.spec, self.vm_spec)
                if each in self.not_lent
            ],
        )

    def patch_spec(self, request: act.PatchSpec) -> act.Done:
        wanted = request.model_dump(include={"replicas", "suspend"}, exclude_none=True)
        if any(getattr(self.spec, field) != value for field, value in wanted.items()):
            self.edit(**wanted)
        return act.Done()

    def preflight(self, request: act.PreflightRequest) -> act.Preflight:
        kinds = [
            conditions.OPERATOR_READY,
            conditions.REGISTRY_READY,
            conditions.CREDENTIALS_READY,
            conditions.CLOUD_READY,
        ]
        if request.spec.outputs or request.spec.checkpoint_config.mode == "Application":
            kinds.append(conditions.STORAGE_READY)
        return act.Preflight(
            conditions=[
                Condition(type=kind, status="False", reason=errors.INVALID)
                if kind in self.failing_checks
                else Condition(type=kind, status="True", reason=reasons.OF[kind][0])
                for kind in kinds
            ]
            + (machines := self.check_machines(request)).conditions,
            unfit=machines.unfit,
        )

    def check_machines(self, request: act.PreflightRequest) -> act.Preflight:
        candidates = [*request.candidates, *request.fallbacks]
        why = {each.key: said for each in candidates if (said := self.misfit(each))}
        fits = len(why) < len(candidates)
        told = Condition(
            type=conditions.MACHINE_FITS,
            status="True" if fits else "False",
            reason=reasons.FITS if fits else reasons.TOO_SMALL,
            message="; ".join(f"{key}: {said}" for key, said in why.items()),
        )
        return act.Preflight(conditions=[told], unfit=list(why))

    def take_stock(self, ref: act.JobRef) -> act.Stock:
        jobs = self.cluster.jobs
        return act.Stock(
            jobs=[job.name for job in jobs.values()],
            replicas=list(jobs),
            checkpoints=[backup.name for backup in self.checkpoints.backups.values()],
            nodes=[node.name for node in self.cluster.nodes.values() if node.owner == ref.job_id],
            machines=sorted(f"{entry.zone}/{entry.name}" for entry in self.entries.values()),
        )

    def release_finalizers(self, request: act.ReleaseFinalizers) -> act.Done:
        self.released = request
        return act.Done()

    def report(self, request: act.Report) -> act.Done:
        # Those of a retry exist already.
        self.events += [event for event in request.events if event not in self.events[-RECENT:]]
        if request.status is not None:
            self.status = request.status
            self.unlisted_reasons |= {
                (each.type, each.reason)
                for each in request.status.conditions
                if not reasons.may_have(each.type, each.reason)
            }
            self.statuses.append(request.status)
        return act.Done()

    def record_cost(self, request: act.RecordCost) -> act.Done:
        self.costs[request.record.job_id] = request.record
        return act.Done()

    def write_vm_entry(self, request: act.WriteVmEntry) -> act.Done:
        if request.entry is None:
            self.entries.pop(request.name, None)
        else:
            self.entries[request.name] = request.entry
        return act.Done()

    # --- what people do

    def edit(self, **changes: Any) -> None:
        """Edit the spec, as kubectl edit does; ``checkpoint`` changes fields of the checkpointConfig."""
        checkpoint = changes.pop("checkpoint", None)
        if checkpoint is not None:
            changes["checkpoint_config"] = self.spec.checkpoint_config.model_copy(update=checkpoint)
        self.spec = self.spec.model_copy(update=changes)
        self.generation += 1
        self._tell_edit(SpecChanged(uid=self.uid, generation=self.generation))

    def ask(self, value: str) -> None:
        """Set the request annotation, as kubectl annotate --overwrite does."""
        self.requested = value
        self.tell(names.job_workflow_id(self.namespace, self.name), "request_changed", RequestChanged(uid=self.uid))

    def edit_vm(self, spec: SpotInstanceVMSpec) -> None:
        """Edit the SpotInstanceVM, as kubectl edit does."""
        self.vm_spec = spec
        self.vm_generation += 1
        self._tell_edit(SpecChanged(uid=self.uid, generation=self.generation, vm_generation=self.vm_generation))

    def _tell_edit(self, message: SpecChanged) -> None:
        self.tell(names.job_workflow_id(self.namespace, self.name), "spec_changed", message)

    # --- what people see

    def condition(self, kind: str) -> Condition | None:
        """Find a condition of the status as last written."""
        return next((condition for condition in self.status.conditions if condition.type == kind), None)

    def told(self, reason: str) -> list[str]:
        """List the messages of the Events with this reason."""
        return [event.message for event in self.events if event.reason == reason]


def refused(message: str) -> ApplicationError:
    """Make a failure that is not transient."""
    return ApplicationError(message, type=errors.INVALID, non_retryable=True)
