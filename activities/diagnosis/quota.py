"""Whether the quotas of a project have room for one more VM, or for a whole gang. Pure.

https://cloud.google.com/compute/resource-usage: spot VMs use the preemptible quota of their GPU, if the project has one
that is not zero, and else the usual one.
"""

from collections.abc import Mapping, Sequence

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


def _metric_of(candidate: Candidate, gpu: str, region: Quotas) -> str:
    metric = gpu_metric(gpu)
    preemptible = f"PREEMPTIBLE_{metric}"
    spot = candidate.provisioning == "Spot" and region.get(preemptible, (0, 0))[0] > 0
    return preemptible if spot else metric


def lack_for_gang(candidates: Sequence[Candidate], members: int, region: Quotas, project: Quotas) -> str | None:
    """Say which limits could never hold a gang of so many members; None if they could, whoever uses them now.

    Args:
        candidates: the candidates of one region, of which the members may be a mixture.
        members: how many there have to be at least.
        region: the quotas of the region.
        project: those of the project in all regions.
    """
    gpus: dict[str, int] = {}
    for candidate in candidates:
        if candidate.gpu is None:
            return None
        metric = _metric_of(candidate, candidate.gpu.type, region)
        if metric not in region:
            return None
        gpus[metric] = min(gpus.get(metric, candidate.gpu.count), candidate.gpu.count)
    if members > sum(region[metric][0] // count for metric, count in gpus.items()):
        limits = ", ".join(f"{metric} in {candidates[0].region} is {region[metric][0]:g}" for metric in gpus)
        return f"a gang of {members} machines does not fit into the quota: {limits}"
    if ALL_GPUS in project and members * min(gpus.values()) > project[ALL_GPUS][0]:
        return f"a gang of {members} machines does not fit into the quota: {ALL_GPUS} is {project[ALL_GPUS][0]:g}"
    return None


def lack_of_room(candidate: Candidate, region: Quotas, project: Quotas) -> str | None:
    """Say which quota has no room for a candidate; None if all that are known have it."""
    if candidate.gpu is None:
        return None
    for name, quotas in ((_metric_of(candidate, candidate.gpu.type, region), region), (ALL_GPUS, project)):
        if name not in quotas:
            continue
        limit, usage = quotas[name]
        if usage + candidate.gpu.count > limit:
            where = "" if name == ALL_GPUS else f" in {candidate.region}"
            return f"{name}{where}: {usage:g} of {limit:g} are in use, and a VM needs {candidate.gpu.count}"
    return None
