"""The inventory of a job: everything in the cluster that bears its id, for its teardown."""

import asyncio

from activities.signatures import JobRef, Stock
from api import names
from api.node_labels import ZONE
from api.projections import is_mirror
from clients.kube import Json, Kube, KubeError, path, selector


async def inventory_of(kube: Kube, job: JobRef) -> Stock:
    """List what bears the job's id.

    What others can write under that id, and what is not named as we name it, is left out.
    """
    backups = f"{names.CHECKPOINT_GROUP}/{names.CHECKPOINT_VERSION}"
    jobs, pods, checkpoints, nodes, vms = await asyncio.gather(
        _ours(kube, path("batch/v1", "jobs", job.namespace), job),
        _ours(kube, path("v1", "pods", job.namespace), job),
        _ours(kube, path(backups, names.CHECKPOINT_PLURAL, job.namespace), job),
        _ours(kube, path("v1", "nodes"), job),
        kube.list(path(names.API_VERSION, names.VM_PLURAL, job.namespace)),
    )
    pods = [pod for pod in pods if not is_mirror(pod)]
    nodes = [node for node in nodes if _is_bought_for(job, _name(node))]
    return Stock(
        jobs=[_name(each) for each in jobs],
        replicas=sorted({which for each in [*jobs, *pods] if (which := _which(each)) is not None}),
        checkpoints=[name for each in checkpoints if _asked_for_by(job, name := _name(each))],
        nodes=[_name(each) for each in nodes],
        machines=_machines(job, nodes, vms),
    )


async def _ours(kube: Kube, where: str, job: JobRef) -> list[Json]:
    """List objects with the job's id; empty for a kind that the cluster does not know."""
    try:
        return await kube.list(where, labelSelector=selector({names.LABEL_JOB: job.job_id}))
    except KubeError as error:
        if error.status == 404:
            return []
        raise


def _asked_for_by(job: JobRef, backup: str) -> bool:
    """True if this is the job's own, and not a copy that somebody made with its labels under another name."""
    number = names.checkpoint_number(backup)
    return number is not None and backup == names.checkpoint_name(job.name, job.job_id, number)


def _is_bought_for(job: JobRef, node: str) -> bool:
    """True by the name, which is that of its certificate; root on a Node can set any label."""
    key = names.vm_key_of(node)
    return key is not None and names.job_id_in(key) == job.job_id


def _name(found: Json) -> str:
    return str(found["metadata"]["name"])


def _which(found: Json) -> tuple[int, int] | None:
    return names.incarnation_in(found["metadata"].get("labels") or {})


def _machines(job: JobRef, nodes: list[Json], vms: list[Json]) -> list[str]:
    """List "zone/name" of each VM, from Nodes and entries: a new VM has no Node yet, another may lack its entry.

    Others can write both, and VMs are deleted by this list. So what has not the form of our names, or no zone, is left
    out.
    """
    found = {_name(node): node["metadata"]["labels"].get(ZONE) for node in nodes}
    for vm in vms:
        entries = (vm.get("status") or {}).get("provisionedInstances") or []
        found |= {entry["name"]: entry.get("zone") for entry in entries}
    return sorted(f"{zone}/{name}" for name, zone in found.items() if names.is_zone(zone) and _is_bought_for(job, name))
