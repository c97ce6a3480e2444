"""The ownership of an object: labels, annotation and owner reference of everything that we make in the cluster."""

from typing import Any

from activities.signatures import JobRef
from api import names
from clients import kube

Json = dict[str, Any]

FIELD_MANAGER = "outlast-worker"


def labels(job_id: str, replica: int, incarnation: int | None = None) -> dict[str, str]:
    """Give the labels of what belongs to a replica, or to one incarnation of it."""
    ours = {
        names.LABEL_JOB: job_id,
        names.LABEL_REPLICA: str(replica),
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
    }
    if incarnation is not None:
        ours[names.LABEL_INCARNATION] = str(incarnation)
    return ours


def selector(job_id: str, replica: int, incarnation: int) -> str:
    """Build the label selector of one incarnation's objects."""
    mine = labels(job_id, replica, incarnation)
    del mine[names.LABEL_MANAGED_BY]
    return kube.selector(mine)


def annotations(job: JobRef) -> dict[str, str]:
    """Give the annotation by which the bridge finds the workflow for an object's changes."""
    return {names.ANNOTATION_WORKFLOW: names.job_workflow_id(job.namespace, job.name)}


def owner(job: JobRef) -> Json:
    """Build the owner reference to the SpotInstanceJob: what is left is deleted with it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "SpotInstanceJob",
        "name": job.name,
        "uid": job.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def belongs_to(found: Json, job_id: str) -> bool:
    """True if the object carries this job's id; one of the same name without it belongs to somebody else."""
    return (found["metadata"].get("labels") or {}).get(names.LABEL_JOB) == job_id
