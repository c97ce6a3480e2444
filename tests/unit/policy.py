"""The vocabulary of the policy tests: a moment, and values that differ in a field or two."""

from datetime import UTC, datetime, timedelta
from typing import Any

from api.views import NodeView, PodView, ReplicaView, RestorePoint
from workflows.job.state.replica import Replica

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    """Return the time so many seconds before now."""
    return NOW - timedelta(seconds=seconds)


def pod(**changes: Any) -> PodView:
    """Make a pod that has run on node-0 for a minute."""
    known: dict[str, Any] = {"name": "pod", "uid": "u", "phase": "Running", "node": "node-0", "started_at": ago(60)}
    return PodView(**{**known, **changes})


def replica(index: int = 0, **changes: Any) -> Replica:
    """Make a replica that has trained on a node of its own for a minute."""
    node = f"node-{index}"
    known: dict[str, Any] = {
        "index": index,
        "incarnation": 0,
        "phase": "Running",
        "since": ago(60),
        "running_since": ago(60),
        "node": node,
        "view": ReplicaView(job_name=f"job-{index}", pod=pod(node=node)),
    }
    return Replica(**{**known, **changes})


def node(name: str = "node-0", **changes: Any) -> NodeView:
    """Make a node that is Ready."""
    return NodeView(name=name, **{"ready": True, **changes})


def point(progress: float = 100, **changes: Any) -> RestorePoint:
    """Make a restore point with an image of its own."""
    known: dict[str, Any] = {"images": {"train": f"registry/train:{progress:g}"}, "created_at": NOW}
    return RestorePoint(progress=progress, **{**known, **changes})
