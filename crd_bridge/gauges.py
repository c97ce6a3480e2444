"""How many jobs and VMs exist, in which state, and what they cost: gauges, from what the bridge reads anyway.

Of a job some two hundred bytes are kept. The gauges are set every ten seconds, and only if something has changed: a
status is written more often than Prometheus asks.
"""

import asyncio
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from temporalio.common import MetricGauge, MetricGaugeFloat, MetricMeter

from api import conditions, metrics
from api.overview import BLOCKERS, CHECKS, WARNINGS
from clients.kube import Json

EVERY = 10.0
"""Seconds between two updates."""

Labels = tuple[tuple[str, str], ...]

BAD = (
    {blocker.type: frozenset({blocker.when}) for blocker in BLOCKERS}
    | dict.fromkeys(WARNINGS, frozenset({"False"}))
    | dict.fromkeys(CHECKS, frozenset({"False", "Unknown"}))
)
"""The conditions that say why a job waits or what is wrong with it, with each status that means so. A check is Unknown
if whom it asks does not answer."""

DECIDING = {
    conditions.FAILED: "Failed",
    conditions.COMPLETED: "Completed",
    conditions.SUSPENDED: "Suspended",
    conditions.RECOVERING: "Recovering",
}
"""The state of a job of which this condition is True. The first one counts."""

OVER = frozenset({"Failed", "Completed", "Deleting", "Suspended"})
"""The states in which nothing is wrong because nothing is to run."""


class Seen(NamedTuple):
    """What is kept of a job."""

    namespace: str
    state: str
    problems: tuple[tuple[str, str], ...]  # conditions and their reasons
    checkpointed_at: float | None  # if it trains: when its last checkpoint was made, as a Unix time
    usd_per_hour: float


class Gauges:
    """Counts jobs and VMs while ``kept`` runs. Afterwards all gauges are 0: another bridge counts then."""

    def __init__(self, meter: MetricMeter = MetricMeter.noop, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._jobs: dict[str, Seen] = {}
        self._vms: dict[str, Counter[tuple[str, str]]] = {}  # SpotInstanceVM → provisioning and stage → how many
        self._changed = False
        self._oldest: dict[str, float] = {}  # namespace → when the last checkpoint was made that is longest ago
        self._states = meter.create_gauge(*metrics.JOBS.made_by)
        self._machines = meter.create_gauge(*metrics.VMS.made_by)
        self._problems = meter.create_gauge(*metrics.JOB_PROBLEMS.made_by)
        self._age = meter.create_gauge(*metrics.CHECKPOINT_AGE.made_by)
        self._cost = meter.create_gauge_float(*metrics.COST_PER_HOUR.made_by)
        self._shown: dict[MetricGauge | MetricGaugeFloat, set[Labels]] = {}

    def job(self, key: str, item: Json | None) -> None:
        """See a SpotInstanceJob as it is now; None if it is gone."""
        seen = _seen(item) if item is not None else None
        if self._jobs.get(key) == seen:
            return
        self._changed = True
        if seen is None:
            del self._jobs[key]
        else:
            self._jobs[key] = seen

    def vm(self, key: str, item: Json | None) -> None:
        """See a SpotInstanceVM as it is now; None if it is gone."""
        entries = ((item or {}).get("status") or {}).get("provisionedInstances") or []
        counted = Counter((entry.get("provisioning") or "Spot", entry.get("state") or "Creating") for entry in entries)
        if self._vms.get(key, Counter()) == counted:
            return
        self._changed = True
        if counted:
            self._vms[key] = counted
        else:
            del self._vms[key]

    async def kept(self) -> None:
        """Set the gauges every ten seconds until cancelled."""
        try:
            while True:
                self.update()
                await asyncio.sleep(EVERY)
        finally:
            self._jobs.clear()
            self._vms.clear()
            self._changed = True
            self.update()

    def update(self) -> None:
        """Set the gauges."""
        if self._changed:
            self._count()
            self._changed = False
        for namespace, oldest in self._oldest.items():
            self._age.set(max(0, round(self._now() - oldest)), {"job_namespace": namespace})

    def _count(self) -> None:
        jobs, problems, cost = Counter[Labels](), Counter[Labels](), defaultdict[Labels, float](float)
        self._oldest = {}
        for job in self._jobs.values():
            jobs[_labels(job_namespace=job.namespace, state=job.state)] += 1
            cost[_labels(job_namespace=job.namespace)] += job.usd_per_hour
            for condition, reason in job.problems:
                problems[_labels(job_namespace=job.namespace, condition=condition, reason=reason)] += 1
            if job.checkpointed_at is not None:
                oldest = self._oldest.get(job.namespace, job.checkpointed_at)
                self._oldest[job.namespace] = min(oldest, job.checkpointed_at)
        machines = Counter[Labels]()
        for key, counted in self._vms.items():
            namespace = key.partition("/")[0]
            for (provisioning, stage), number in counted.items():
                machines[_labels(job_namespace=namespace, provisioning=provisioning, stage=stage)] += number
        self._set(self._states, jobs)
        self._set(self._problems, problems)
        self._set(self._machines, machines)
        self._set(self._cost, cost)
        self._set(self._age, Counter(_labels(job_namespace=namespace) for namespace in self._oldest))

    def _set(self, gauge: MetricGauge | MetricGaugeFloat, counted: Mapping[Labels, float]) -> None:
        """Set a gauge for all labels, also for those that nothing has any more."""
        shown = self._shown.setdefault(gauge, set())
        for labels in sorted(shown | counted.keys()):
            gauge.set(counted.get(labels, 0), dict(labels))  # type: ignore[arg-type]
        shown.update(counted)


def _labels(**labels: str) -> Labels:
    return tuple(labels.items())


def _seen(item: Json) -> Seen:
    status = item.get("status") or {}
    told = {condition["type"]: condition for condition in status.get("conditions") or []}
    state = "Deleting" if "deletionTimestamp" in item["metadata"] else _state(status, told)
    trains = bool(status.get("activeReplicas"))
    machines = (status.get("cost") or {}).get("machines") or []
    return Seen(
        namespace=sys.intern(item["metadata"]["namespace"]),
        state=state,
        problems=() if state in OVER else tuple(_problems(told.values())),
        checkpointed_at=_moment(status.get("lastCheckpointTime")) if trains else None,
        usd_per_hour=sum(machine.get("pricePerHour") or 0.0 for machine in machines),
    )


def _state(status: Json, told: dict[str, Json]) -> str:
    for condition, state in DECIDING.items():
        if condition in told and told[condition].get("status") == "True":
            return state
    return "Running" if status.get("activeReplicas") else "Waiting"


def _problems(told: Iterable[Json]) -> Iterable[tuple[str, str]]:
    for condition in told:
        if condition.get("status") in BAD.get(condition["type"], ()):
            yield sys.intern(condition["type"]), sys.intern(condition.get("reason") or "")


def _moment(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None
