"""``report.json``: what is known of a job after its object is deleted, one document in its bucket.

Fields are only added; ``version`` grows if one changes its meaning.
"""

from datetime import datetime
from typing import Literal

from pydantic import Field

from api.common import Condition
from api.model import Model


class VmRecord(Model):
    """A VM that was bought for the job, from its workflow's reports."""

    name: str
    replica: int
    zone: str | None = None
    machine_type: str | None = None
    provisioning: str | None = None  # Spot or OnDemand
    price_per_hour: float | None = None  # in USD, when it was bought; None if it was not known
    on_demand_per_hour: float | None = None  # in USD, of the same machine on-demand; None if it is not known
    gpus: int = 0
    created_at: datetime | None = None  # when it was first reported to exist
    gone_at: datetime | None = None  # when it was confirmed gone
    why_gone: str = ""


class IncarnationRecord(Model):
    """One run of a replica's training."""

    replica: int = Field(description="the replica that ran")
    incarnation: int = Field(description="its how-manyth start")
    node: str | None = Field(default=None, description="on which Node")
    restored_from: str | None = Field(
        default=None, description="with which checkpoint it began; absent if from the beginning"
    )
    started_at: datetime = Field(description="when its pod ran")
    begins_at: float = Field(default=0, description="seconds of training that were in that checkpoint")
    ended_at: datetime | None = Field(default=None, description="when it ended; absent if it runs")
    reaches: float | None = Field(
        default=None, description="seconds of training that it had in memory at its end, with those it began with"
    )
    why_ended: str = Field(default="", description="why it ended")


class ReplicaRecord(Model):
    """One replica at the job's end."""

    replica: int
    outcome: str | None = None
    incarnations: int = 0
    restarts: int = 0
    preemptions: int = 0
    progress: float | None = None
    last_checkpoint: str | None = None
    last_checkpoint_at: datetime | None = None
    log: str | None = None


class JobReport(Model):
    """The content of ``report.json``."""

    version: Literal[1] = 1
    namespace: str
    name: str
    uid: str
    job_id: str
    cluster_id: str
    spec_sha256: str  # of the spec as JSON with sorted keys
    spot_instance_vm: str  # the one that VMs were bought by
    ended: str  # Completed, Failed, Deleted, Cancelled, Gone
    written_at: datetime
    conditions: list[Condition] = []
    replicas: list[ReplicaRecord] = []
    checkpoints: int = Field(default=0, description="that were asked for")
    vms: list[VmRecord] = Field(default=[], description="the last 200")
    vms_before: int = Field(default=0, description="older ones, which are not listed")
    incarnations: list[IncarnationRecord] = Field(default=[], description="the last 200")
    incarnations_before: int = Field(default=0, description="older ones, which are not listed")
    vm_hours: float = Field(default=0, description="of all VMs, also those that are not listed")
    estimated_cost: float = Field(default=0, description="in USD, of all VMs whose price was known")
    on_demand_cost: float = Field(default=0, description="in USD, of the same VMs on-demand, as far as it is known")
    gpu_hours: float = Field(default=0, description="of all VMs")
    vms_without_price: int = 0
    lost_seconds: float = Field(default=0, description="training that was lost with machines and had to be repeated")
    frozen_seconds: float = Field(default=0, description="for which checkpoints of images froze the training")
