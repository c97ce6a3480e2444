"""The world's API server as the job's documents see it: the SpotInstanceJob, what it names, its status and Events."""

import uuid
from collections.abc import Callable
from typing import Any

from temporalio.exceptions import ApplicationError

from activities import signatures as act
from api import errors, names
from api.common import MACHINE_FITS, Condition
from api.identity import borrowed
from api.market import Candidate
from api.messages import JobStart, SpecChanged
from api.spot_instance_job import SpotInstanceJobSpec, SpotInstanceJobStatus
from api.spot_instance_vm import ProvisionedInstance, SpotInstanceVMSpec
from api.timings import Timings
from tests.workflows.checkpoints import REPOSITORY, Checkpoints
from tests.workflows.cluster import Cluster

CLUSTER_ID = "0b0e7a52-4fcb-4f7e-9d3e-0c2b6d1f5a11"
NAMESPACE = "team"
NAME = "llm"


def vm_spec(*, more: dict[str, Any] | None = None, **gcp: Any) -> SpotInstanceVMSpec:
    """A SpotInstanceVM as people write it; ``more`` stands beside ``gcp``."""
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
    """A SpotInstanceJob as people write it; ``checkpoint`` changes its checkpointConfig."""
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
        self.timings = Timings(preempted_poll=0)
        self.generation = 1
        self.vm_generation = 1
        self.exists = True
        self.deleting = False
        self.missing: str | None = None  # a Secret that the spec names and that is not there
        self.not_lent: set[str] = set()  # what the settings lend to nobody, of the worker's identity
        self.remarks: list[str] = []  # on what the spec names
        self.hold: act.Hold | None = None  # who suspends the Jobs of this one, by what can be known before
        self.failing_checks: set[str] = set()  # of the preflight
        self.misfit: Callable[[Candidate], str | None] = lambda candidate: None  # why the pod can never run there
        self.status = SpotInstanceJobStatus()
        self.statuses: list[SpotInstanceJobStatus] = []
        self.events: list[act.JobEvent] = []
        self.entries: dict[str, ProvisionedInstance] = {}
        self.released: act.ReleaseFinalizers | None = None

    @property
    def start(self) -> JobStart:
        """Input of its workflow."""
        job_id = names.job_id(CLUSTER_ID, self.uid)
        return JobStart(namespace=self.namespace, name=self.name, uid=self.uid, cluster_id=CLUSTER_ID, job_id=job_id)

    # --- activities

    def load_job(self, ref: act.JobRef) -> act.JobDocument:
        if not self.exists:
            return act.JobDocument(exists=False)
        problems = []
        if self.vm_spec is None:
            problems.append(_problem("SpotInstanceVMMissing", "create SpotInstanceVM team/gpu"))
        if self.missing:
            problems.append(_problem("SecretMissing", f"create Secret team/{self.missing}"))
        if self.cluster.refuses_pods:
            problems.append(_problem(act.POD_REFUSED, self.cluster.refuses_pods))
        return act.JobDocument(
            exists=True,
            deleting=self.deleting,
            generation=self.generation,
            spec=self.spec,
            vm_spec=self.vm_spec,
            timings=self.timings,
            remarks=self.remarks,
            hold=self.hold,
            problems=problems,
            not_lent=[
                act.NotLent(wanted=each, problem=_problem("IdentityNotLent", f"write {each}"))
                for each in borrowed(self.spec, self.vm_spec)
                if each in self.not_lent
            ],
        )

    def patch_spec(self, request: act.PatchSpec) -> act.Done:
        wish = request.model_dump(include={"replicas", "suspend"}, exclude_none=True)
        if any(getattr(self.spec, field) != value for field, value in wish.items()):
            self.edit(**wish)
        return act.Done()

    def preflight(self, request: act.PreflightRequest) -> act.Preflight:
        kinds = ["CheckpointOperatorReady", "RegistryReady", "CredentialsReady", "CloudReady"]
        if request.spec.outputs or request.spec.checkpoint_config.mode == "Application":
            kinds.append("StorageReady")
        return act.Preflight(
            conditions=[
                Condition(type=kind, status="False" if kind in self.failing_checks else "True", reason="Checked")
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
            type=MACHINE_FITS,
            status="True" if fits else "False",
            reason="Fits" if fits else "TooSmall",
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
        self.events += [event for event in request.events if event not in self.events]  # a retry finds the first
        if request.status is not None:
            self.status = request.status
            self.statuses.append(request.status)
        return act.Done()

    def write_vm_entry(self, request: act.WriteVmEntry) -> act.Done:
        if request.entry is None:
            self.entries.pop(request.name, None)
        else:
            self.entries[request.name] = request.entry
        return act.Done()

    # --- what people do

    def edit(self, **changes: Any) -> None:
        """As kubectl edit; ``checkpoint`` changes fields of the checkpointConfig."""
        checkpoint = changes.pop("checkpoint", None)
        if checkpoint is not None:
            changes["checkpoint_config"] = self.spec.checkpoint_config.model_copy(update=checkpoint)
        self.spec = self.spec.model_copy(update=changes)
        self.generation += 1
        self._tell_edit(SpecChanged(uid=self.uid, generation=self.generation))

    def edit_vm(self, spec: SpotInstanceVMSpec) -> None:
        """As kubectl edit of the SpotInstanceVM."""
        self.vm_spec = spec
        self.vm_generation += 1
        self._tell_edit(SpecChanged(uid=self.uid, generation=self.generation, vm_generation=self.vm_generation))

    def _tell_edit(self, message: SpecChanged) -> None:
        self.tell(names.job_workflow_id(self.namespace, self.name), "spec_changed", message)

    # --- what people see

    def condition(self, kind: str) -> Condition | None:
        """A condition of the status as last written."""
        return next((condition for condition in self.status.conditions if condition.type == kind), None)

    def told(self, reason: str) -> list[str]:
        """Messages of the Events with this reason."""
        return [event.message for event in self.events if event.reason == reason]


def _problem(reason: str, message: str) -> Condition:
    return Condition(type="Accepted", status="False", reason=reason, message=message)


def refused(message: str) -> ApplicationError:
    """A failure that is not transient."""
    return ApplicationError(message, type=errors.INVALID, non_retryable=True)
