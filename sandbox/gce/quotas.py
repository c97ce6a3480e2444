"""Quotas: what a VM counts against, and what a region's quotas say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sandbox.gce.catalog import region_of
from sandbox.gce.placement import Placement

Quota = tuple[str | None, str]
"""A quota is identified by its region (None: global) and its metric."""

_GPU_METRICS = {
    "nvidia-tesla-t4": "NVIDIA_T4_GPUS",
    "nvidia-tesla-p4": "NVIDIA_P4_GPUS",
    "nvidia-tesla-v100": "NVIDIA_V100_GPUS",
    "nvidia-tesla-p100": "NVIDIA_P100_GPUS",
    "nvidia-tesla-a100": "NVIDIA_A100_GPUS",
    "nvidia-a100-80gb": "NVIDIA_A100_80GB_GPUS",
    "nvidia-l4": "NVIDIA_L4_GPUS",
    "nvidia-h100-80gb": "NVIDIA_H100_GPUS",
}


def charges(placement: Placement, zone: str) -> Counter[Quota]:
    """Return how much of each quota a VM takes."""
    region = region_of(zone)
    cpus = "PREEMPTIBLE_CPUS" if placement.spot else "CPUS"
    taken: Counter[Quota] = Counter({(region, "INSTANCES"): 1, (region, cpus): placement.machine_type.cpus})
    if placement.gpu_type:
        metric = _GPU_METRICS[placement.gpu_type]
        taken[region, f"PREEMPTIBLE_{metric}" if placement.spot else metric] = placement.gpu_count
        taken[None, "GPUS_ALL_REGIONS"] = placement.gpu_count
    return taken


def exceeded(wanted: Counter[Quota], used: Iterable[Counter[Quota]], limits: Mapping[Quota, float]) -> Quota | None:
    """Return the first quota that has no room for what is ``wanted`` beside what is ``used``."""
    total = sum(used, Counter[Quota]())
    return next(
        (quota for quota, limit in limits.items() if wanted[quota] and total[quota] + wanted[quota] > limit), None
    )


def quota_resources(region: str | None, used: Counter[Quota], limits: Mapping[Quota, float]) -> list[dict[str, Any]]:
    """Return ``quotas`` of a region or (None) a project: those with a limit, and those in use."""
    metrics = sorted({metric for where, metric in (*limits, *used) if where == region})
    unlimited = 1e6
    return [
        {"metric": metric, "limit": limits.get((region, metric), unlimited), "usage": float(used[region, metric])}
        for metric in metrics
    ]
