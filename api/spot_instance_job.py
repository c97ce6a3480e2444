"""``SpotInstanceJob``: what to train. The original operator's fields keep name and meaning; new ones are optional."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from api import formats
from api.common import Condition, LocalReference, SecretReference
from api.cost import CostStatus
from api.duration import GoDuration, GoDurationOrAuto, parse_duration
from api.gang import Gang
from api.model import Model
from api.report import IncarnationRecord

VM_REF, TEMPLATE_REF = "spotInstanceVMRef", "instanceTemplateRef"
ONE_REF = "set one of spotInstanceVMRef and instanceTemplateRef, and not both: it names what VMs are bought by"


def vm_name_in(spec: Mapping[str, Any]) -> str:
    """Read the SpotInstanceVM's name in a spec as it is stored, which no type has checked; empty if there is none."""
    return str((spec.get(VM_REF) or spec.get(TEMPLATE_REF) or {}).get("name", ""))


CheckpointLayout = Literal["Outlast", "TorchDCP", "Orbax"]


class CheckpointStorage(Model):
    """A bucket for all but images: logs, outputs, the training's own checkpoints."""

    type: str = Field(max_length=32, description="gcs, s3, azure")
    bucket: Annotated[str, formats.BUCKET] = Field(min_length=1, max_length=222, description="azure: the container")
    path_prefix: Annotated[str, formats.KEY] = Field(
        default="", max_length=512, description="where in the bucket everything is put"
    )
    endpoint: Annotated[str, formats.URL] | None = Field(
        default=None,
        max_length=253,
        description="URL of another service that speaks this protocol; only the Secret's identity is used there",
    )
    region: Annotated[str, formats.STORAGE_REGION] | None = Field(
        default=None, max_length=63, description="for s3; default: us-east-1"
    )
    layout: CheckpointLayout = Field(
        default="Outlast",
        exclude_if=lambda layout: layout == "Outlast",  # the hash of a spec stays what it was in earlier releases
        description="in mode Application, what makes a checkpoint complete: Outlast: outlast.json, or a manifest of "
        "each process; TorchDCP: .metadata of torch.distributed.checkpoint; Orbax: its commit_success.txt",
    )
    credentials_secret_ref: LocalReference | None = Field(
        default=None,
        description="Secret with credentials.json (gcs), AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (s3), "
        "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (azure); default: gcpCredentialsSecretRef for gcs, "
        "else the worker's own identity",
    )


class Progress(Model):
    """How the training reports its progress."""

    log_pattern: str = Field(
        min_length=1,
        max_length=256,
        description=r"regular expression (RE2) with one group that matches a number, for example step=(\d+)",
    )


class Retention(Model):
    """Which checkpoints are kept; the images of others are removed from the repository."""

    keep_last: int = Field(
        default=3,
        ge=1,
        le=100,
        description="number of the furthest checkpoints to keep, beside those in use or proven",
    )


class CheckpointConfig(Model):
    """When and where the training's state is saved."""

    checkpoint_image_repo: Annotated[str, formats.REPOSITORY] | None = Field(
        default=None, max_length=400, description="repository of checkpoint images, without a tag"
    )
    checkpoint_interval: GoDurationOrAuto = Field(
        default="30m", description="auto: tuned to what checkpoints take and how often machines are lost"
    )
    checkpoint_repo_credential_ref: SecretReference | None = Field(
        default=None,
        description="Secret with username and password; default for Google's registries: gcpCredentialsSecretRef",
    )
    checkpoint_storage: CheckpointStorage | None = None
    progress: Progress | None = Field(
        default=None, description="how the training says how far it is; default: its running time counts"
    )
    mode: Literal["Image", "Application"] = Field(
        default="Image",
        description="Image: the pods are dumped with their memory and files, and the training knows nothing of it. "
        "Application: the training saves itself into checkpointStorage when it gets SIGTERM",
    )
    restore_from: Annotated[str, formats.RESTORE_FROM] | None = Field(
        default=None,
        max_length=500,
        description="an image to start from, or LatestTag for the tag created last; in mode Application a prefix in "
        "the bucket of checkpointStorage",
    )
    on_unrestorable: Literal["Hold", "ColdStart"] = Field(
        default="Hold",
        description="what to do if no checkpoint can be restored. Hold: wait for a person. ColdStart: begin anew",
    )
    retention: Retention = Field(default=Retention(), description="which checkpoints are kept")
    verify_restore: bool = Field(
        default=False,
        description="start one more replica from the first image, on a GPU or VM of its own, to see whether it starts",
    )


class SpotInstanceJobSpec(Model):
    """A training that outlasts the machines on which it runs."""

    replicas: int = Field(default=2, ge=1, le=16, description="redundant copies of the training, each on its own node")
    job_template: dict[str, Any] = Field(description="batch/v1 JobTemplateSpec")
    checkpoint_config: CheckpointConfig
    gang: Gang | None = Field(
        default=None,
        exclude_if=lambda gang: gang is None,  # the hash of a spec stays what it was in earlier releases
        description="run each replica as several pods on as many machines; default: as many as jobTemplate's "
        "parallelism says, else one",
    )
    spot_instance_vm_ref: LocalReference = Field(
        description="SpotInstanceVM of this namespace that says what VMs to buy"
    )
    instance_template_ref: LocalReference | None = Field(
        default=None, exclude=True, description="spotInstanceVMRef by another name, for an InstanceTemplate"
    )
    gcp_credentials_secret_ref: SecretReference | None = Field(
        default=None, description="Secret with credentials.json; default: the worker's own identity"
    )
    main_container: Annotated[str, formats.CONTAINER] | None = Field(
        default=None,
        max_length=63,
        description="container of jobTemplate whose end is the replica's; default: the first that fails, or all",
    )
    completion_policy: Literal["Any", "All"] = Field(
        default="Any",
        description="whether the job is complete once the first copy succeeds (Any), or once all do (All)",
    )
    max_restarts: int | None = Field(
        default=None,
        ge=0,
        description="failures of the training itself; default: jobTemplate's backoffLimit, else 3",
    )
    stall_timeout: GoDuration | None = Field(
        default=None,
        description="how long the training may report no progress (checkpointConfig.progress) until it is restarted; "
        "default: 6h if it reports any; 0s: forever",
    )
    suspend: bool = Field(
        default=False, description="checkpoint the training and release all its machines until this is false again"
    )
    suspend_unsaved: bool = Field(
        default=False,
        description="suspend at once even if the training cannot be checkpointed: what it did since the last "
        "checkpoint is lost",
    )
    outputs: list[Annotated[str, Field(pattern=formats.OUTPUT.pattern, max_length=256), formats.OUTPUT]] = Field(
        default=[],
        max_length=16,
        description="paths in the containers; their files are uploaded to checkpointStorage once the training has "
        "ended, if they are in a container's own file system on a VM that was bought",
    )
    start_deadline: GoDuration | None = Field(
        default=None,
        description="how long the image pulls and init containers of a replica may take on its VM, all together, until "
        "the VM is released; default: 2h",
    )
    keep_failed_for: GoDuration | None = Field(
        default=None, description="how long the VM of a replica that failed for good is kept for a person to enter it"
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=2**31 - 1,
        description="delete the SpotInstanceJob this many seconds after it is Completed or Failed, once everything is "
        "torn down; default: it stays",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_reference(cls, spec: Any) -> Any:
        """Read ``instanceTemplateRef`` as ``spotInstanceVMRef``, so that nothing else has to know both."""
        if not isinstance(spec, Mapping) or not spec.get(TEMPLATE_REF):
            return spec
        if spec.get(VM_REF):
            raise ValueError(ONE_REF)
        rest = {key: value for key, value in spec.items() if key not in (VM_REF, TEMPLATE_REF)}
        return {**rest, VM_REF: spec[TEMPLATE_REF]}

    @property
    def job_spec(self) -> dict[str, Any]:
        """Give the template's JobSpec; empty if it has none."""
        found = self.job_template.get("spec")
        return found if isinstance(found, dict) else {}

    @property
    def pod(self) -> dict[str, Any]:
        """Give the template's PodSpec; empty if it has none."""
        found: dict[str, Any] = self.job_template.get("spec", {}).get("template", {}).get("spec", {})
        return found

    @property
    def is_gang(self) -> bool:
        """True if a replica is several pods that train together, or one that is told that it is the only one."""
        return self.gang is not None or self.members > 1 or self.job_spec.get("completionMode") == "Indexed"

    @property
    def members(self) -> int:
        """Count the pods of a replica."""
        if self.gang is not None:
            return self.gang.max_size
        parallelism = self.job_spec.get("parallelism")
        return parallelism if isinstance(parallelism, int) and parallelism > 1 else 1

    @property
    def in_one_zone(self) -> bool:
        """True if the machines of a replica have to be in one zone."""
        return self.members > 1 and (self.gang is None or self.gang.placement != "Region")

    @property
    def is_compact(self) -> bool:
        """True if the machines of a replica have to be near to each other."""
        return self.gang is not None and self.gang.placement == "Compact"

    @property
    def seconds_to_start(self) -> float | None:
        """Give the seconds that pulls and init containers may take; None if the job does not say."""
        return parse_duration(self.start_deadline).total_seconds() if self.start_deadline else None

    @property
    def restarts_allowed(self) -> int:
        """Count how often a replica may fail by itself; preemptions never count."""
        if self.max_restarts is not None:
            return self.max_restarts
        backoff_limit = self.job_template.get("spec", {}).get("backoffLimit")
        return backoff_limit if isinstance(backoff_limit, int) else 3


class MemberStatus(Model):
    """One member of a gang."""

    member: int = Field(description="its number, which is its rank and the completion index of its pod")
    node_name: str | None = Field(default=None, description="the Node of its pod")
    vm_name: str | None = Field(default=None, description="the VM that was bought for it")
    phase: str | None = Field(default=None, description="what its machine or its pod is doing")
    progress: float | None = Field(default=None, description="what it has reported last; None if it reports nothing")


class JobStatusEntry(Model):
    """One replica."""

    name: str = Field(description="the replica's Job")
    replica: int | None = Field(default=None, description="its number, from 0")
    incarnation: int | None = Field(default=None, description="how often it was started anew, on whatever machine")
    phase: str | None = Field(default=None, description="what it is doing: docs/phases.md")
    message: str | None = Field(default=None, description="more of what phase says")
    node_name: str | None = Field(default=None, description="the Node of its pod")
    vm_name: str | None = Field(
        default=None, description="the VM that was bought for it; absent on a machine of the cluster"
    )
    members: list[MemberStatus] | None = Field(
        default=None, exclude_if=lambda members: members is None, description="of a gang: its pods and machines"
    )
    wanted_members: int | None = Field(
        default=None,
        exclude_if=lambda members: members is None,
        description="of a gang: with how many members it trains if there is a machine for each",
    )
    restarts: int | None = Field(default=None, description="failures of the training itself")
    preemptions: int | None = Field(default=None, description="machines that it lost")
    disruptions: int | None = Field(
        default=None, description="how often its pod was evicted or deleted while its machine stayed up"
    )
    progress: float | None = Field(default=None, description="what the training has reported last")
    restored_from: str | None = Field(
        default=None, description="what this incarnation began with; absent if from the beginning"
    )
    last_checkpoint_image: str | None = Field(default=None, description="the last checkpoint of this replica")
    last_checkpoint_time: datetime | None = Field(default=None, description="when that was made")
    kept_until: datetime | None = Field(
        default=None, description="until when keepFailedFor keeps its VM; message says how to enter it"
    )
    log: str | None = Field(
        default=None,
        description="location of the logs of its ended incarnations: a directory in the bucket of checkpointStorage, "
        "or configmap/NAMESPACE/NAME",
    )


LONGEST_REQUEST = 256
"""Characters of the request annotation."""


class RequestStatus(Model):
    """The answer to the request annotation."""

    value: str = Field(description="the annotation that is answered; a longer one is shortened")
    state: Literal["Accepted", "Done", "Failed", "Refused"] = Field(
        description="Accepted: being carried out. Done: it was. Failed: it could not be. Refused: it was not tried"
    )
    message: str = Field(default="", description="what came of it, what it waits for, or what to write instead")
    at: datetime | None = Field(default=None, description="since when state is so")


class SpotInstanceJobStatus(Model):
    """What the workflow tells; once the job has begun, written by one activity alone."""

    state: str | None = Field(
        default=None, description="in a few words what the job is doing or waits for, or how it ended"
    )
    message: str | None = Field(default=None, description="more of what state says")
    conditions: list[Condition] = Field(default=[], description="what is so and what is not, with the reasons")
    replicas: int | None = Field(default=None, description="replicas that are meant to exist: the scale subresource's")
    active_replicas: int | None = Field(default=None, description="replicas that train")
    started: bool | None = Field(
        default=None, description="a pod of it has run; until then its jobTemplate may still be corrected"
    )
    progress: float | None = Field(
        default=None,
        exclude_if=lambda progress: progress is None,
        description="what the furthest replica has reported last; absent if none has reported any",
    )
    preemptions: int | None = Field(
        default=None,
        exclude_if=lambda preemptions: preemptions is None,
        description="machines that its replicas have lost, all together",
    )
    last_checkpoint_time: datetime | None = Field(
        default=None, description="when the last checkpoint of any replica was made"
    )
    last_checkpoint_image: str | None = Field(default=None, description="that checkpoint")
    job_statuses: list[JobStatusEntry] = Field(default=[], description="the replicas")
    observed_generation: int | None = Field(default=None, description="the generation of the spec that this is about")
    workflow_id: str | None = Field(default=None, description="its workflow at Temporal")
    job_id: str | None = Field(default=None, description="what the names of everything that belongs to it contain")
    last_reconcile_time: datetime | None = Field(
        default=None,
        description="when its workflow last read this object, written once an hour; if that is two hours "
        "ago and the job has not ended, nobody acts for it",
    )
    cost: CostStatus | None = Field(
        default=None,
        exclude_if=lambda cost: cost is None,
        description="estimated cost of the VMs that were bought, in USD; absent if none was",
    )
    cost_so_far: str | None = Field(
        default=None,
        exclude_if=lambda cost: cost is None,
        description="what cost amounts to when the status or lastReconcileTime was last written; ? if it is unknown",
    )
    history: list[IncarnationRecord] = Field(
        default=[],
        exclude_if=lambda history: not history,
        description="the last 30 incarnations of all replicas: on which node, from what, since when and until when",
    )
    request: RequestStatus | None = Field(
        default=None,
        description="the answer to the annotation training.dcnlab.com/request. checkpoint-now asks for a "
        "checkpoint, preemption-notice replica=0 seconds=120 (or node=NAME) announces the end of a machine. Each value "
        'is carried out once: end it with a word that makes it new, for example "checkpoint-now $(date +%s)"',
    )
