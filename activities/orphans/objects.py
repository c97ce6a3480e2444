"""Objects of the cluster that nobody owns: CheckpointBackups of jobs that are gone, and marks left on Nodes.

What else a job makes there goes with it: Jobs, Secrets and ConfigMaps by their owner reference, Nodes with their VM.
A CheckpointBackup has an owner reference, too, but its operator's finalizer holds it where the agent is gone.
"""

from datetime import UTC, datetime

from temporalio import activity
from temporalio.client import Client

from activities import signatures
from activities.orphans.owners import is_old, owners
from activities.signatures import CheckpointRef, Done, JobRef, NodeRef, OrphanedObjects, OrphanedTaint, SweepRequest
from api import names
from clients.kube import Json, Kube, KubeError, path, selector

_CHECKPOINTS = path(f"{names.CHECKPOINT_GROUP}/{names.CHECKPOINT_VERSION}", names.CHECKPOINT_PLURAL)


class OrphanedObjectActivities:
    """Finds them, and takes marks off.

    Args:
        temporal: the service that runs the jobs' workflows.
        kube: the cluster.
    """

    def __init__(self, temporal: Client, kube: Kube) -> None:
        self._temporal = temporal
        self._kube = kube

    @activity.defn(name=signatures.FIND_ORPHANED_OBJECTS.name)
    async def find_orphaned_objects(self, request: SweepRequest) -> OrphanedObjects:
        """Look at all CheckpointBackups that bear a job's id, and at all Nodes that bear the agent's mark."""
        backups = [backup for backup in await self._backups() if _names_its_job(backup)]
        marked = [node for node in await self._kube.list(path("v1", "nodes")) if _mark(node) is not None]
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
            return await self._kube.list(
                _CHECKPOINTS, labelSelector=selector({names.LABEL_MANAGED_BY: names.MANAGED_BY})
            )
        except KubeError as error:
            if error.status == 404:  # a cluster without the operator
                return []
            raise

    @activity.defn(name=signatures.REMOVE_TAINT.name)
    async def remove_taint(self, orphan: OrphanedTaint) -> Done:
        """Take the mark off the Node that was seen; one that was marked anew meanwhile, or is gone, is left alone."""
        where = path("v1", "nodes", name=orphan.node.name)
        node = await self._kube.find(where)
        if node is None or node["metadata"]["uid"] != orphan.node.uid:
            return Done()
        taints = node["spec"].get("taints") or []
        kept = [each for each in taints if (each["key"], each.get("value")) != (orphan.taint, orphan.value)]
        if len(kept) < len(taints):
            version = node["metadata"]["resourceVersion"]
            await self._kube.patch(where, {"metadata": {"resourceVersion": version}, "spec": {"taints": kept}})
        return Done()


def _names_its_job(backup: Json) -> bool:
    """Whoever makes one writes what he likes: about what can be no workflow of its namespace nobody is asked."""
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
    """The agent's mark."""
    taints = (node.get("spec") or {}).get("taints") or []
    return next((taint for taint in taints if taint["key"] == names.TAINT_PREEMPTED), None)


def _outlived(node: Json, grace: float) -> bool:
    """The machine lives though its notice is long over. One that we bought is its workflow's, or a whole orphan."""
    mark = _mark(node)
    if mark is None or names.vm_key_of(node["metadata"]["name"]) is not None:
        return False
    try:
        at = datetime.strptime(mark.get("value") or "", names.MARK_TIME).replace(tzinfo=UTC)
    except ValueError:
        return False  # nothing says when
    conditions = (node.get("status") or {}).get("conditions") or []
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return ready and is_old(at, grace)


def _taint(node: Json) -> OrphanedTaint:
    mark = _mark(node)
    assert mark is not None
    ref = NodeRef(name=node["metadata"]["name"], uid=node["metadata"]["uid"])
    return OrphanedTaint(node=ref, taint=mark["key"], value=mark.get("value") or "")
