"""What a Node says about itself, and who announces its end."""

from datetime import UTC, datetime
from typing import Any

import pytest

from api.names import TAINT_PREEMPTED
from api.node_conditions import BROKEN, UNFIT
from api.projections import MARK_SHUTDOWN, node_view

Json = dict[str, Any]


def make_node(*, taints: list[Json] | None = None, conditions: list[Json] | None = None, **spec: Any) -> Json:
    return {
        "metadata": {"name": "n", "uid": "u"},
        "spec": spec | ({"taints": taints} if taints else {}),
        "status": {"conditions": conditions or [], "allocatable": {"cpu": "4", "nvidia.com/gpu": "2"}},
    }


def condition(kind: str, status: str = "True", message: str = "") -> Json:
    return {"type": kind, "status": status, "message": message}


def test_a_node_that_has_just_been_created() -> None:
    view = node_view({"metadata": {"name": "n"}})
    assert (view.exists, view.ready, view.schedulable, view.gpus, view.marks) == (True, False, True, 0, [])


def test_a_ready_node() -> None:
    view = node_view(make_node(conditions=[condition("Ready")]))
    assert (view.uid, view.ready, view.gpus) == ("u", True, 2)


@pytest.mark.parametrize("status", ["False", "Unknown"])
def test_a_node_that_is_not_ready(status: str) -> None:
    assert not node_view(make_node(conditions=[condition("Ready", status)])).ready


def test_a_cordoned_node() -> None:
    assert not node_view(make_node(unschedulable=True)).schedulable


@pytest.mark.parametrize(
    "key",
    [
        "training.dcnlab.com/preempted",
        "cloud.google.com/impending-node-termination",
        "aws-node-termination-handler/spot-itn",
        "aws-node-termination-handler/scheduled-maintenance",
        "aws-node-termination-handler/rebalance-recommendation",
        "aws-node-termination-handler/asg-lifecycle-termination",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
        "remediator.kubernetes.azure.com/unschedulable",
        "ToBeDeletedByClusterAutoscaler",
    ],
)
def test_taints_that_announce_its_end(key: str) -> None:
    assert node_view(make_node(taints=[{"key": key, "effect": "NoSchedule"}])).marks == [key]


@pytest.mark.parametrize("key", ["node.kubernetes.io/not-ready", "nvidia.com/gpu", "cloud.google.com/gke-spot"])
def test_taints_that_do_not(key: str) -> None:
    assert node_view(make_node(taints=[{"key": key, "effect": "NoSchedule"}])).marks == []


@pytest.mark.parametrize(
    "kind",
    [*(f"{what}Scheduled" for what in ("Preempt", "Preemption", "Terminate", "Redeploy", "Reboot", "VMEvent"))],
)
def test_conditions_that_announce_its_end(kind: str) -> None:
    said = condition(kind, message="Preempt Scheduled: Sat, 01 Aug 2026 05:41:02 GMT.")
    assert node_view(make_node(conditions=[said])).marks == [kind]
    assert node_view(make_node(conditions=[condition(kind, "False")])).marks == []
    assert node_view(make_node(conditions=[condition(kind, "Unknown")])).marks == []


@pytest.mark.parametrize("kind", ["FreezeScheduled", "VMEventScheduled"])
def test_a_freeze_is_no_end(kind: str) -> None:
    said = condition(kind, message="Freeze Scheduled: Sat, 01 Aug 2026 05:41:02 GMT.")
    assert node_view(make_node(conditions=[said])).marks == []


def test_the_agents_mark_says_since_when_the_notice_runs() -> None:
    mark = {"key": TAINT_PREEMPTED, "value": "20260301T120005Z", "effect": "NoSchedule"}
    assert node_view(make_node(taints=[mark])).marked_at == datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize("value", ["now", "", None])
def test_a_mark_by_hand_says_nothing_of_a_time(value: str | None) -> None:
    mark = {"key": TAINT_PREEMPTED, "effect": "NoSchedule"} | ({} if value is None else {"value": value})
    view = node_view(make_node(taints=[mark]))
    assert (view.marks, view.marked_at) == ([TAINT_PREEMPTED], None)


def test_a_notice_has_run_out_once_the_kubelet_shuts_down() -> None:
    mark = {"key": TAINT_PREEMPTED, "value": "20260301T120005Z", "effect": "NoSchedule"}
    shutting_down = condition("Ready", "False", "node is shutting down")
    assert node_view(make_node(taints=[mark], conditions=[shutting_down])).marked_at is None


def test_a_kubelet_that_shuts_down() -> None:
    shutting_down = condition("Ready", "False", "node is shutting down")
    assert node_view(make_node(conditions=[shutting_down])).marks == [MARK_SHUTDOWN]


@pytest.mark.parametrize(("kind", "status"), [*BROKEN.items()])
def test_conditions_of_a_machine_on_which_nothing_goes_on(kind: str, status: str) -> None:
    healthy = "False" if status == "True" else "True"
    assert node_view(make_node(conditions=[condition(kind, status)])).marks == [kind]
    assert node_view(make_node(conditions=[condition(kind, healthy)])).marks == []
    assert node_view(make_node(conditions=[condition(kind, "Unknown")])).marks == []


@pytest.mark.parametrize(("kind", "status"), [*UNFIT.items()])
def test_conditions_because_of_which_nothing_is_started(kind: str, status: str) -> None:
    view = node_view(make_node(conditions=[condition(kind, status)]))
    assert (view.marks, view.unfit) == ([], [kind])


@pytest.mark.parametrize("kind", ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"])
def test_conditions_that_are_the_kubelets_to_act_on(kind: str) -> None:
    view = node_view(make_node(conditions=[condition(kind)]))
    assert (view.marks, view.unfit) == ([], [])
