"""Orphaned objects of the cluster: CheckpointBackups of jobs that are gone, and preemption taints left on Nodes.

All else that a job makes goes with its owner: Jobs, Secrets and ConfigMaps by their owner reference, Nodes with their
VM. A CheckpointBackup has an owner reference, too, but its operator's finalizer keeps it if the agent is gone.
"""

from datetime import UTC, datetime

from temporalio import activity
from temporalio.client import Client

from activities import signatures
from activities.orphans.owners import is_old, owners
from activities.signatures import CheckpointRef, Done, JobRef, NodeRef, OrphanedObjects, OrphanedTaint, SweepRequest
from api import names
from api.object_conditions import is_true
from clients.changes import change
from clients.kube import Json, Kube, KubeError, path, selector

_CHECKPOINTS = path(f"{names.CHECKPOINT_GROUP}/{names.CHECKPOINT_VERSION}", names.CHECKPOINT_PLURAL)


class OrphanedObjectActivities:
    """Finds orphaned objects, and removes preemption taints.

    Args:
        temporal: the service that runs the jobs' workflows.
        kube: the cluster.
    """

    def __init__(self, temporal: Client, kube: Kube) -> None:
        self._temporal = temporal
        self._kube = kube

    @activity.defn(name=signatures.FIND_ORPHANED_OBJECTS.name)
    async def find_orphaned_objects(self, request: SweepRequest) -> OrphanedObjects:
        """Check all CheckpointBackups with a job's id, and all Nodes with a preemption taint."""
        backups = await self._backups()
        marked = [node async for node in self._kube.each(path("v1", "nodes")) if _mark(node) is not None]
        asked = await owners(self._temporal, self._kube, request.cluster_id)
        orphans = []
        for backup in backups:
            ref, workflow_id = _ref(backup), backup["metadata"]["annotations"][names.ANNOTATION_WORKFLOW]
            if is_old(backup["metadata"]["creationTimestamp"], request.grace) and await asked.is_gone(
                ref.job.job_id, workflow_id
            ):
                orphans.append(ref)
        return OrphanedObjects(
            checkpoints=orphans,
            checkpoints_seen=len(backups),
            taints=[_taint(node) for node in marked if _outlived(node, request.grace)],
            taints_seen=len(marked),
        )

    async def _backups(self) -> list[Json]:
        try:
            found = self._kube.each(_CHECKPOINTS, labelSelector=selector({names.LABEL_MANAGED_BY: names.MANAGED_BY}))
            return [backup async for backup in found if _names_its_job(backup)]
        except KubeError as error:
            if error.status == 404:  # a cluster without the operator
                return []
            raise

    @activity.defn(name=signatures.REMOVE_TAINT.name)
    async def remove_taint(self, orphan: OrphanedTaint) -> Done:
        """Remove the taint from the Node that was seen, unless it was tainted again meanwhile or is gone."""

        def without(node: Json) -> Json | None:
            taints = node["spec"].get("taints") or []
            kept = [each for each in taints if (each["key"], each.get("value")) != (orphan.taint, orphan.value)]
            seen = node["metadata"]["uid"] == orphan.node.uid
            return {"spec": {"taints": kept}} if seen and len(kept) < len(taints) else None

        await change(self._kube, path("v1", "nodes", name=orphan.node.name), without, "the taint stays")
        return Done()


def _names_its_job(backup: Json) -> bool:
    """True if it names a workflow that its namespace can have. Its author can write anything, so others are ignored."""
    metadata = backup["metadata"]
    workflow = (metadata.get("annotations") or {}).get(names.ANNOTATION_WORKFLOW, "")
    named = names.is_job_workflow_id(workflow) and workflow.startswith(f"{metadata['namespace']}/")
    job_id, number = metadata["labels"].get(names.LABEL_JOB, ""), names.checkpoint_number(metadata["name"])
    return named and number is not None and metadata["name"].endswith(f"-{job_id}-c{number}")


def _ref(backup: Json) -> CheckpointRef:
    metadata = backup["metadata"]
    job_id, number = metadata["labels"][names.LABEL_JOB], names.checkpoint_number(metadata["name"])
    assert number is not None
    owner = (metadata.get("ownerReferences") or [{}])[0]
    job = JobRef(
        namespace=metadata["namespace"],
        name=metadata["name"].removesuffix(f"-{job_id}-c{number}"),
        uid=owner.get("uid", ""),
        job_id=job_id,
    )
    return CheckpointRef(job=job, number=number)


def _mark(node: Json) -> Json | None:
    """Find the preemption taint that the node agent sets."""
    taints = (node.get("spec") or {}).get("taints") or []
    return next((taint for taint in taints if taint["key"] == names.TAINT_PREEMPTED), None)


def _outlived(node: Json, grace: float) -> bool:
    """True if the machine lives long after its notice. A VM that we bought has a workflow, or is an orphan itself."""
    mark = _mark(node)
    if mark is None or names.vm_key_of(node["metadata"]["name"]) is not None:
        return False
    try:
        at = datetime.strptime(mark.get("value") or "", names.MARK_TIME).replace(tzinfo=UTC)
    except ValueError:
        return False  # the taint does not say when it was set
    return is_true(node, "Ready") and is_old(at, grace)


def _taint(node: Json) -> OrphanedTaint:
    mark = _mark(node)
    assert mark is not None
    ref = NodeRef(name=node["metadata"]["name"], uid=node["metadata"]["uid"])
    return OrphanedTaint(node=ref, taint=mark["key"], value=mark.get("value") or "")
