"""Which replica is checkpointed: the furthest whose machine is not about to go."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from api.views import NodeView
from workflows.job.checkpoints.policy.progress import training_time
from workflows.job.state.replica import Replica


def going(node: str | None, nodes: Mapping[str, NodeView], notices: Collection[str]) -> bool:
    """True if a node is gone, or its machine has had a notice."""
    if node is None or node in notices:
        return True
    view = nodes.get(node)
    return view is not None and (not view.exists or bool(view.marks))


def threatened(replica: Replica, nodes: Mapping[str, NodeView], notices: Collection[str]) -> bool:
    """True if a machine under a replica is gone or has had a notice, or if a member has none."""
    return any(going(seat.node, nodes, notices) for seat in replica.place.seats)


def source_for_checkpoint(
    replicas: Iterable[Replica], nodes: Mapping[str, NodeView], notices: Collection[str], now: datetime
) -> Replica | None:
    """Find the furthest healthy replica, of equal ones that with the lower index; None if there is none.

    A replica whose reported progress has stalled is never a source: its memory may be broken, and its image would break
    the others.
    """
    healthy = [replica for replica in replicas if _healthy(replica, nodes, notices)]
    return max(healthy, key=lambda replica: (training_time(replica, now), -replica.index), default=None)


def least_advanced(replicas: Iterable[Replica], now: datetime) -> Replica | None:
    """Find the replica to release if there are too many: of equally advanced ones that with the higher index."""
    return min(replicas, key=lambda replica: (training_time(replica, now), -replica.index), default=None)


def unreachable(
    replicas: Iterable[Replica], nodes: Mapping[str, NodeView], notices: Collection[str], now: datetime
) -> Replica | None:
    """Find the furthest replica that is healthy but for its NotReady node; None if there is none."""
    silent = [one for one in replicas if _runs(one) and not threatened(one, nodes, notices) and not _ready(one, nodes)]
    return max(silent, key=lambda replica: (training_time(replica, now), -replica.index), default=None)


def trains(replica: Replica, nodes: Mapping[str, NodeView]) -> bool:
    """True if a replica can be dumped now, even if its machine has had a notice."""
    return _runs(replica) and _ready(replica, nodes)


def _healthy(replica: Replica, nodes: Mapping[str, NodeView], notices: Collection[str]) -> bool:
    return trains(replica, nodes) and not threatened(replica, nodes, notices)


def _runs(replica: Replica) -> bool:
    return replica.phase == "Running" and not replica.halt and not replica.run.stalled and replica.all_run


def _ready(replica: Replica, nodes: Mapping[str, NodeView]) -> bool:
    views = [nodes[name] for name in replica.place.nodes if name in nodes]
    return all(view.ready for view in views)
