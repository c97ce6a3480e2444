"""A gang: a replica of several pods that train together as one. What its Job, its pods and its Service need. Pure.

One Indexed Job makes the pods of an incarnation, so one deletion stops them all. A member's rank is its completion
index. The members meet at the first of them, by its name in DNS, which a headless Service publishes. That is the
rendezvous of this incarnation alone: it ends with it, so nothing has to outlive a spot VM.
"""

from typing import Any

from activities.kubernetes import ownership
from activities.placement.demand import amounts_of
from activities.signatures import CreateReplica
from api import names
from api.gang import INDEX_ANNOTATION, MASTER_PORT

Json = dict[str, Any]

_MARGIN = 5
"""Seconds of a pod's grace that torchrun leaves to itself: its workers are killed that much before the kubelet acts."""
_USUAL_GRACE = 30


def is_gang(request: CreateReplica) -> bool:
    """True if the replica is a gang, even one with a single member."""
    return request.indexed or request.members > 1


def job_fields(request: CreateReplica) -> Json:
    """Give the fields of the JobSpec that make a pod for each member, and none a second time.

    With ``backoffLimit: 0`` instead of a limit for each index, the controller deletes all other pods once one has
    failed: https://kubernetes.io/docs/concepts/workloads/controllers/job/#backoff-limit-per-index
    """
    members = request.members
    return {"completionMode": "Indexed", "completions": members, "parallelism": members, "backoffLimitPerIndex": 0}


def coordinator(request: CreateReplica) -> str:
    """Give the name in DNS of the first member's pod.

    It ends in ``svc``, because only the cluster knows its own domain. A Pod's resolv.conf completes it.
    """
    job = request.job
    pod = f"{names.replica_job_name(job.name, job.job_id, request.replica, request.incarnation)}-0"
    return f"{pod}.{names.gang_service_name(job.name, job.job_id, request.replica)}.{job.namespace}.svc"


def annotations(request: CreateReplica) -> dict[str, str]:
    """Give the annotations of the pods from which a container's identity is read."""
    return {
        names.ANNOTATION_GANG_SIZE: str(request.members),
        names.ANNOTATION_COORDINATOR: f"{coordinator(request)}:{MASTER_PORT}",
    }


IDENTITY = {
    "member": f"metadata.annotations['{INDEX_ANNOTATION}']",
    "size": f"metadata.annotations['{names.ANNOTATION_GANG_SIZE}']",
    "coordinator": f"metadata.annotations['{names.ANNOTATION_COORDINATOR}']",
}
"""Files of a container's identity beside those of every replica, and the fields that they show."""


def own_pod(pod: Json, containers: list[Json], request: CreateReplica) -> None:
    """Let the members find each other, by the variables that frameworks read."""
    pod.pop("hostname", None)
    pod["subdomain"] = names.gang_service_name(request.job.name, request.job.job_id, request.replica)
    for container in containers:
        given: list[Json] = container.get("env") or []
        taken = {each.get("name") for each in given}
        ours = _variables(request, _gpus(container), pod.get("terminationGracePeriodSeconds", _USUAL_GRACE))
        # In front of the template's, which may then refer to them: $(RANK).
        container["env"] = [*(each for each in ours if each["name"] not in taken), *given]


def _variables(request: CreateReplica, gpus: int, grace: int) -> list[Json]:
    """List the variables of one container.

    ``RANK`` and ``WORLD_SIZE`` count members, which is right for one process in each pod (``env://``, JAX). torchrun
    reads those that begin with ``PET_``, and sets the others anew for each process that it starts.
    """
    where, port, size = coordinator(request), str(MASTER_PORT), str(request.members)
    index = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX_ANNOTATION}']"}}
    values = {
        "MASTER_ADDR": where,
        "MASTER_PORT": port,
        "WORLD_SIZE": size,
        "PET_MASTER_ADDR": where,
        "PET_MASTER_PORT": port,
        "PET_NNODES": size,
        "PET_SHUTDOWN_TIMEOUT": str(max(1, grace - _MARGIN)),
        "JAX_COORDINATOR_ADDRESS": f"{where}:{port}",
        **({"PET_NPROC_PER_NODE": str(gpus)} if gpus else {}),
    }
    return [
        {"name": "RANK", "valueFrom": index},
        {"name": "PET_NODE_RANK", "valueFrom": index},
        *({"name": name, "value": value} for name, value in values.items()),
    ]


def _gpus(container: Json) -> int:
    """Count the GPUs of a container, for each of which torchrun starts a process."""
    limits = amounts_of((container.get("resources") or {}).get("limits"))
    return int(limits.get(names.GPU_RESOURCE, 0))


def service(request: CreateReplica) -> Json:
    """Build the headless Service that gives each member's pod a name, in every incarnation of the replica.

    It publishes pods before they are Ready, because a member may only become Ready once it has met the others.
    """
    job = request.job
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": names.gang_service_name(job.name, job.job_id, request.replica),
            "namespace": job.namespace,
            "labels": ownership.labels(job.job_id, request.replica),
            "ownerReferences": [ownership.owner(job)],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {names.LABEL_JOB: job.job_id, names.LABEL_REPLICA: str(request.replica)},
        },
    }
