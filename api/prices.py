"""What machines cost on-demand, for clouds that do not tell: Google's public list prices, as of a date.

The prices are those of ``us-central1``, where most types are cheapest; other regions cost up to a third more. They
serve for comparisons, never for decisions: a job says what it has cost, and what the same hours would have cost
on-demand. ``onDemandFallback.pricePerHour`` of a SpotInstanceVM takes precedence.

Source: Google Cloud's price list of accelerator-optimized and N1 machine types and of GPUs.
"""

import re

from api.market import Candidate
from api.spot_instance_vm import OnDemandFallback

AS_OF = "2025-06"
"""When the prices below were on the list."""

GPUS = {
    "nvidia-tesla-t4": 0.35,
    "nvidia-tesla-p4": 0.60,
    "nvidia-tesla-p100": 1.46,
    "nvidia-tesla-v100": 2.48,
}
"""USD per hour for one GPU that is attached to a machine of the family N1."""

N1 = {
    "standard": 0.0475,  # 3.75 GB for each CPU
    "highmem": 0.0592,  # 6.5 GB
    "highcpu": 0.0354,  # 0.9 GB
}
"""USD per hour for one CPU of an N1 machine with its memory."""

MACHINES = {
    "a2-highgpu-1g": (1, 3.67),
    "a2-highgpu-2g": (2, 7.35),
    "a2-highgpu-4g": (4, 14.69),
    "a2-highgpu-8g": (8, 29.39),
    "a2-megagpu-16g": (16, 55.74),
    "a2-ultragpu-1g": (1, 5.07),
    "a2-ultragpu-2g": (2, 10.14),
    "a2-ultragpu-4g": (4, 20.28),
    "a2-ultragpu-8g": (8, 40.55),
    "a3-highgpu-1g": (1, 10.98),
    "a3-highgpu-2g": (2, 21.96),
    "a3-highgpu-4g": (4, 43.92),
    "a3-highgpu-8g": (8, 87.83),
    "a3-megagpu-8g": (8, 92.21),
    "g2-standard-4": (1, 0.71),
    "g2-standard-8": (1, 0.85),
    "g2-standard-12": (1, 1.00),
    "g2-standard-16": (1, 1.15),
    "g2-standard-24": (2, 2.00),
    "g2-standard-32": (1, 1.73),
    "g2-standard-48": (4, 4.00),
    "g2-standard-96": (8, 8.01),
}
"""Machine types with built-in GPUs: how many, and USD per hour for all of it."""


def on_demand_price(candidate: Candidate, fallback: OnDemandFallback | None = None) -> float | None:
    """Return what a machine costs on-demand in USD per hour; None if neither the spec nor the table says."""
    if fallback is not None and fallback.price_per_hour is not None:
        return float(fallback.price_per_hour)
    if candidate.machine_type in MACHINES:
        return MACHINES[candidate.machine_type][1]
    family = re.fullmatch(r"n1-(standard|highmem|highcpu)-([0-9]+)", candidate.machine_type)
    gpu = candidate.gpu
    if family is None or (gpu is not None and gpu.type not in GPUS):
        return None
    attached = gpu.count * GPUS[gpu.type] if gpu is not None else 0.0
    return round(int(family[2]) * N1[family[1]] + attached, 4)


def price_of(candidate: Candidate, quoted: float | None, fallback: OnDemandFallback | None = None) -> float | None:
    """Return what a VM that was bought costs in USD per hour, from the price that was quoted; None if nobody knows."""
    if quoted is None and candidate.provisioning == "OnDemand":
        return on_demand_price(candidate, fallback)
    return quoted


def gpus_of(candidate: Candidate) -> int:
    """Count the GPUs of a machine, attached or built in; 0 if it has none, or is of a type that the table lacks."""
    if candidate.gpu is not None:
        return candidate.gpu.count
    return MACHINES.get(candidate.machine_type, (0, 0.0))[0]
