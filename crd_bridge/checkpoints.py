"""CheckpointBackups of ours: their workflow is told how one ended, and that one is gone before its end.

The states in between (five phases for each container) decide nothing. Whether the operator has begun is read from the
object when it should have.
"""

import sys
from dataclasses import dataclass
from functools import partial

from api import names
from api.messages import CheckpointChanged
from api.projections import checkpoint_view
from api.views import CheckpointView
from clients.kube import Json
from crd_bridge.queues import Queues
from crd_bridge.reported import Reported
from crd_bridge.temporal import Gateway

PLURAL = names.CHECKPOINT_PLURAL

Projection = tuple[str | None, bool, bool]


@dataclass(frozen=True, slots=True)
class Seen:
    """A CheckpointBackup as it was last seen. Its view, which is larger, is needed for one message only."""

    workflow: str
    job_id: str
    name: str
    projection: Projection

    @property
    def has_ended(self) -> bool:
        """True if the operator is done with it."""
        return self.projection[2]

    def gone(self) -> CheckpointView:
        """Describe it once it is gone."""
        return CheckpointView(name=self.name, uid=self.projection[0], exists=False)


class Checkpoints:
    """All CheckpointBackups with a job's label."""

    def __init__(self, gateway: Gateway, queues: Queues, reported: Reported) -> None:
        self._reported = reported
        self._gateway = gateway
        self._queues = queues
        self._last: dict[str, Seen] = {}

    def changed(self, key: str, item: Json | None, version: int) -> None:
        """Report a change; without ``item`` the object is gone."""
        old = self._last.pop(key, None)
        if item is not None:
            workflow, job_id = owner(item)
            view = checkpoint_view(item)
        elif old is not None:
            workflow, job_id, view = old.workflow, old.job_id, old.gone()
        else:
            return
        if not workflow:
            return
        projection = _projection(view)
        if view.exists:
            self._last[key] = Seen(sys.intern(workflow), sys.intern(job_id), view.name, projection)
        if old is None and view.exists and not view.ended:
            return  # its creator knows that it exists
        if old is None and self._reported.covers(PLURAL, version):
            return
        if old is not None and old.has_ended and not view.exists:
            return  # nothing more could become of it
        if old is None or old.projection != projection:
            message = CheckpointChanged(job_id=job_id, version=version, view=view)
            self._queues.put(("checkpoint", key), partial(self._tell, workflow, message), owed=(PLURAL, version))

    async def _tell(self, workflow: str, message: CheckpointChanged) -> None:
        await self._gateway.signal(workflow, "checkpoint_changed", message)


def owner(item: Json) -> tuple[str, str]:
    """Read (workflow id, job id) of an object of ours; empty if it does not name them.

    A workflow of another namespace is ignored: whoever creates pods in one namespace must not reach the jobs of
    another.
    """
    metadata = item["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    workflow = annotations.get(names.ANNOTATION_WORKFLOW, "")
    here = workflow.startswith(f"{metadata.get('namespace')}/") and names.is_job_workflow_id(workflow)
    return workflow if here else "", labels.get(names.LABEL_JOB, "")


def _projection(view: CheckpointView) -> Projection:
    return view.uid, view.exists, view.ended
