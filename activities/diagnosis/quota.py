"""Whether the quotas of a project have room for one more VM. Pure.

https://cloud.google.com/compute/resource-usage: spot VMs use the preemptible quota of their GPU, if the project has one
that is not zero, and else the usual one.
"""

from collections.abc import Mapping

from api.market import Candidate

ALL_GPUS = "GPUS_ALL_REGIONS"
Quotas = Mapping[str, tuple[float, float]]
"""The limit and the usage of each metric."""


def gpu_metric(gpu: str) -> str:
    """Name the quota of a GPU.

    >>> gpu_metric("nvidia-tesla-t4"), gpu_metric("nvidia-a100-80gb"), gpu_metric("nvidia-h100-80gb")
    ('NVIDIA_T4_GPUS', 'NVIDIA_A100_80GB_GPUS', 'NVIDIA_H100_GPUS')
    """
    words = gpu.removeprefix("nvidia-").removeprefix("tesla-").split("-")
    if words[0] != "a100":
        words = [word for word in words if not word.endswith("gb")]
    return f"NVIDIA_{'_'.join(words).upper()}_GPUS"


def lack_of_room(candidate: Candidate, region: Quotas, project: Quotas) -> str | None:
    """Say which quota has no room for a candidate; None if all that are known have it."""
    if candidate.gpu is None:
        return None
    metric = gpu_metric(candidate.gpu.type)
    preemptible = f"PREEMPTIBLE_{metric}"
    spot = candidate.provisioning == "Spot" and region.get(preemptible, (0, 0))[0] > 0
    for name, quotas in ((preemptible if spot else metric, region), (ALL_GPUS, project)):
        if name not in quotas:
            continue
        limit, usage = quotas[name]
        if usage + candidate.gpu.count > limit:
            where = "" if name == ALL_GPUS else f" in {candidate.region}"
            return f"{name}{where}: {usage:g} of {limit:g} are in use, and a VM needs {candidate.gpu.count}"
    return None
