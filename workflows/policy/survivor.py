"""Which replica is checkpointed: the one that is furthest and is not going itself."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from api.views import NodeView
from workflows.policy.progress import lineage_seconds
from workflows.state import Replica


def going(node: str | None, nodes: Mapping[str, NodeView], notices: Collection[str]) -> bool:
    """The node is announced to go, or gone."""
    if node is None or node in notices:
        return True
    view = nodes.get(node)
    return view is not None and (not view.exists or bool(view.marks))


def source_for_checkpoint(
    replicas: Iterable[Replica], nodes: Mapping[str, NodeView], notices: Collection[str], now: datetime
) -> Replica | None:
    """The furthest healthy replica, the lower index where two are equal; None where nobody is fit.

    A replica whose reported progress stands still is never a source: its memory may be broken, and its image would
    break the others.
    """
    fit = [replica for replica in replicas if _healthy(replica, nodes, notices)]
    return max(fit, key=lambda replica: (lineage_seconds(replica, now), -replica.index), default=None)


def least_far(replicas: Iterable[Replica], now: datetime) -> Replica | None:
    """The replica to let go of when there are too many; the higher index where two are equal."""
    return min(replicas, key=lambda replica: (lineage_seconds(replica, now), -replica.index), default=None)


def out_of_sight(
    replicas: Iterable[Replica], nodes: Mapping[str, NodeView], notices: Collection[str], now: datetime
) -> Replica | None:
    """The furthest replica that only its node's silence keeps from being checkpointed; None where there is none."""
    silent = [one for one in replicas if _runs(one) and not going(one.node, nodes, notices) and not _ready(one, nodes)]
    return max(silent, key=lambda replica: (lineage_seconds(replica, now), -replica.index), default=None)


def trains(replica: Replica, nodes: Mapping[str, NodeView]) -> bool:
    """It can be dumped now, whatever was announced of its machine."""
    return _runs(replica) and _ready(replica, nodes)


def _healthy(replica: Replica, nodes: Mapping[str, NodeView], notices: Collection[str]) -> bool:
    return trains(replica, nodes) and not going(replica.node, nodes, notices)


def _runs(replica: Replica) -> bool:
    if replica.phase != "Running" or replica.halt or replica.stalled:
        return False
    pod = replica.view.pod if replica.view else None
    return pod is not None and pod.phase == "Running" and not pod.deleting and not pod.disrupted


def _ready(replica: Replica, nodes: Mapping[str, NodeView]) -> bool:
    view = nodes.get(replica.node or "")
    return view is None or view.ready
