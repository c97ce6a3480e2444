"""The metrics that Outlast's own code serves to Prometheus. ``python -m api.vocabulary`` writes ``docs/metrics.md``.

A label has few values: never a job, a replica or a VM. ``job_namespace`` is the namespace of the jobs, because
``namespace`` is the Temporal namespace in the metrics of workflows, and the pod's own in what Prometheus scrapes.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Program = Literal["bridge", "worker", "bridge, worker"]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: how Prometheus calls it.
        kind: what it is. Of a gauge, each process serves what it knew last.
        of: the programs that serve it.
        about: what it is, for ``docs/metrics.md`` and Prometheus' own help.
        labels: which labels of ours it has.
        buckets: the upper bounds of a histogram's buckets.
    """

    name: str
    kind: Kind
    of: Program
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def made_by(self) -> tuple[str, str]:
        """Return what a meter needs to make the instrument: its name and its help."""
        return self.name, self.about

    @property
    def series(self) -> tuple[str, ...]:
        """List the names under which Prometheus stores it."""
        return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count")) if self.buckets else (self.name,)


MOMENTS = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0, 600.0)
"""Bounds in seconds of what a notice leaves time for: Google's is 30 s, others' are up to two minutes."""
MINUTES = (5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 21600.0, 86400.0)
"""Bounds in seconds of what takes minutes, and may take hours."""
DOLLARS = (0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0)
"""Bounds in USD of what a machine costs in its life."""

# --- what Outlast promises

NOTICE_TO_CHECKPOINT = Metric(
    "outlast_notice_to_checkpoint_seconds", "histogram", "worker",
    "from a notice until a checkpoint for the replica that lost its machine was pushed, in mode Image",
    ("job_namespace", "source"), MOMENTS,
)  # fmt: skip
RECOVERY = Metric(
    "outlast_recovery_seconds", "histogram", "worker",
    "from a loss until the replica trains again (all), until its machine was Ready (machine), and between (training)",
    ("job_namespace", "phase"), MINUTES,
)  # fmt: skip
LOST_TRAINING = Metric(
    "outlast_lost_training_seconds", "histogram", "worker",
    "training that an incarnation has to repeat, because it was not in what it was restored from",
    ("job_namespace",), (0.0, 1.0, *MINUTES),
)  # fmt: skip
CHECKPOINT = Metric(
    "outlast_checkpoint_seconds", "histogram", "worker",
    "from the request of a checkpoint until its end, by why it was made and how it ended",
    ("job_namespace", "outcome", "reason"), MINUTES,
)  # fmt: skip
CAPACITY_WAIT = Metric(
    "outlast_capacity_wait_seconds", "histogram", "worker",
    "from the request of a VM until it was bought, by the reason of the last failed attempt (none: the first worked)",
    ("job_namespace", "provisioning", "reason"), MINUTES,
)  # fmt: skip
VM_COST = Metric(
    "outlast_vm_cost_usd", "histogram", "worker",
    "estimated cost in USD of a VM of a job, once it is gone; VMs whose price is unknown are left out",
    ("job_namespace", "provisioning"), DOLLARS,
)  # fmt: skip
VM_ON_DEMAND_COST = Metric(
    "outlast_vm_on_demand_cost_usd", "histogram", "worker",
    "what a VM of a job would have cost on-demand in USD, once it is gone; left out if unknown",
    ("job_namespace", "provisioning"), DOLLARS,
)  # fmt: skip

# --- what exists, as the bridge sees it

JOBS = Metric(
    "outlast_jobs", "gauge", "bridge",
    "jobs by state: Waiting, Running, Recovering, Suspended, Completed, Failed, Deleting",
    ("job_namespace", "state"),
)  # fmt: skip
JOB_PROBLEMS = Metric(
    "outlast_job_problems", "gauge", "bridge",
    "jobs that have not ended, by each condition that says why they wait or what is wrong, and its reason",
    ("condition", "job_namespace", "reason"),
)  # fmt: skip
CHECKPOINT_AGE = Metric(
    "outlast_checkpoint_age_seconds", "gauge", "bridge",
    "age of the last checkpoint of the running job for which that is longest ago; 0 if none of them has one",
    ("job_namespace",),
)  # fmt: skip
COST_PER_HOUR = Metric(
    "outlast_running_cost_usd_per_hour", "gauge", "bridge",
    "estimated cost in USD per hour of the VMs that exist for jobs",
    ("job_namespace",),
)  # fmt: skip
VMS = Metric(
    "outlast_vms", "gauge", "bridge",
    "VMs by provisioning and stage, as the status of their SpotInstanceVM lists them",
    ("job_namespace", "provisioning", "stage"),
)  # fmt: skip

# --- how Outlast itself is

UNREACHABLE = Metric(
    "outlast_unreachable_seconds", "gauge", "bridge, worker",
    "since Temporal or Kubernetes last answered; 0 while it answers; updated every ten seconds",
    ("side",),
)  # fmt: skip
ACTIVITY_FAILURES = Metric(
    "outlast_activity_failures", "counter", "worker",
    "failed activities by their reason, such as NoCapacity, PermissionDenied or Transient (no answer)",
    ("activity_type", "reason"),
)  # fmt: skip
SWEEP_ORPHANS = Metric(
    "outlast_sweep_orphans", "gauge", "worker",
    "what the last sweep on this worker found that nobody owns",
    ("kind",),
)  # fmt: skip
SWEEP_ALARM = Metric(
    "outlast_sweep_alarm", "gauge", "worker",
    "1 while the sweep has stopped itself",
)  # fmt: skip
SWEEP_AT = Metric(
    "outlast_sweep_timestamp_seconds", "gauge", "worker",
    "when this worker last ran a sweep, as a Unix time",
)  # fmt: skip
STUCK_WORKFLOWS = Metric(
    "outlast_stuck_workflows", "gauge", "worker",
    "open workflows whose task fails again and again, as the last sweep on this worker saw them",
    ("workflow_type",),
)  # fmt: skip
VERSION_CURRENT = Metric(
    "outlast_worker_version_current", "gauge", "worker",
    "1 while new work goes to this worker's version, else 0; updated every 30 seconds",
    ("version",),
)  # fmt: skip
MEMORY_CURRENT = Metric(
    "outlast_worker_memory_current", "gauge", "worker",
    "1 if this memory of the cluster is its present state, 0 if activities have to list; updated every ten seconds",
    ("resource",),
)  # fmt: skip
WORKER_DIRECT_LISTS = Metric(
    "outlast_worker_direct_lists", "counter", "worker",
    "lists that activities had to read because a memory was not current",
    ("resource",),
)  # fmt: skip
WORKER_EVENTS = Metric(
    "outlast_worker_events", "counter", "worker",
    "changes received for the memories",
    ("resource",),
)  # fmt: skip
WORKER_LISTS = Metric(
    "outlast_worker_lists", "counter", "worker",
    "full lists read for the memories",
    ("resource",),
)  # fmt: skip
BRIDGE_ACTIVE = Metric(
    "outlast_bridge_active", "gauge", "bridge",
    "1 if this bridge is the one that acts",
)  # fmt: skip
BRIDGE_EVENTS = Metric(
    "outlast_bridge_events", "counter", "bridge",
    "changes received",
    ("resource",),
)  # fmt: skip
BRIDGE_LISTS = Metric(
    "outlast_bridge_lists", "counter", "bridge",
    "full lists read",
    ("resource",),
)  # fmt: skip
BRIDGE_SIGNALS = Metric(
    "outlast_bridge_signals", "counter", "bridge",
    "signals that workflows were sent",
    ("signal",),
)  # fmt: skip
BRIDGE_STARTS = Metric(
    "outlast_bridge_starts", "counter", "bridge",
    "workflows of jobs that were started: to begin, or to shut down",
    ("start",),
)  # fmt: skip
BRIDGE_FAILURES = Metric(
    "outlast_bridge_failures", "counter", "bridge",
    "what had to be reported to Temporal again",
)  # fmt: skip
BRIDGE_WAITING = Metric(
    "outlast_bridge_waiting", "gauge", "bridge",
    "objects of which Temporal is not told yet",
)  # fmt: skip

GROUPS = {
    "Whether Outlast keeps its promise": (
        NOTICE_TO_CHECKPOINT, RECOVERY, LOST_TRAINING, CHECKPOINT, CAPACITY_WAIT, VM_COST, VM_ON_DEMAND_COST,
    ),
    "What exists": (JOBS, JOB_PROBLEMS, CHECKPOINT_AGE, COST_PER_HOUR, VMS),
    "How Outlast itself is": (
        UNREACHABLE, ACTIVITY_FAILURES, SWEEP_ORPHANS, SWEEP_ALARM, SWEEP_AT, STUCK_WORKFLOWS, VERSION_CURRENT,
        MEMORY_CURRENT, WORKER_DIRECT_LISTS, WORKER_EVENTS, WORKER_LISTS, BRIDGE_ACTIVE, BRIDGE_EVENTS, BRIDGE_LISTS,
        BRIDGE_SIGNALS, BRIDGE_STARTS, BRIDGE_FAILURES, BRIDGE_WAITING,
    ),
}  # fmt: skip
"""The sections of the page, with their metrics."""

ALL = tuple(metric for group in GROUPS.values() for metric in group)
"""All metrics."""

BUCKETS = {metric.name: metric.buckets for metric in ALL if metric.buckets}
"""The bounds of each histogram, for the program that serves it."""
