"""CheckpointBackups of ours: a workflow hears that one was taken up, how it ended, and that it is gone.

What lies between (five phases for each container) decides nothing.
"""

from functools import partial

from api import names
from api.messages import CheckpointChanged
from api.projections import checkpoint_view
from api.views import CheckpointView
from clients.kube import Json
from crd_bridge.queues import Queues
from crd_bridge.temporal import Gateway

Projection = tuple[str | None, bool, bool, bool]


class Checkpoints:
    """All CheckpointBackups with a job's label."""

    def __init__(self, gateway: Gateway, queues: Queues) -> None:
        self._gateway = gateway
        self._queues = queues
        self._last: dict[str, tuple[str, str, CheckpointView]] = {}  # key → workflow, job id, what it was told

    def changed(self, key: str, item: Json | None, version: int) -> None:
        """An object changed or, without ``item``, is gone."""
        old = self._last.pop(key, None)
        if item is not None:
            workflow, job_id = owner(item)
            view = checkpoint_view(item)
        elif old is not None:
            workflow, job_id, seen = old
            view = CheckpointView(name=seen.name, uid=seen.uid, exists=False)
        else:
            return
        if not workflow:
            return
        if view.exists:
            self._last[key] = (workflow, job_id, view)
        if old is None and view.exists and view.phase is None:
            return  # whoever created it knows that it exists
        if old is None or _projection(old[2]) != _projection(view):
            message = CheckpointChanged(job_id=job_id, version=version, view=view)
            self._queues.put(("checkpoint", key), partial(self._tell, workflow, message))

    async def _tell(self, workflow: str, message: CheckpointChanged) -> None:
        await self._gateway.signal(workflow, "checkpoint_changed", message)


def owner(item: Json) -> tuple[str, str]:
    """(workflow id, job id) of an object of ours; empty where it does not say.

    Who may create pods in one namespace must not reach the jobs of another: a workflow elsewhere is not said.
    """
    metadata = item["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    workflow = annotations.get(names.ANNOTATION_WORKFLOW, "")
    here = workflow.startswith(f"{metadata.get('namespace')}/") and names.is_job_workflow_id(workflow)
    return workflow if here else "", labels.get(names.LABEL_JOB, "")


def _projection(view: CheckpointView) -> Projection:
    return view.uid, view.exists, view.phase is not None, view.ended
