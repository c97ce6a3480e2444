"""What a Node says about itself, and who announces its end."""

from typing import Any

import pytest

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
    view = node_view(make_node(conditions=[condition("Ready")], providerID="gce://p/z/n"))
    assert (view.uid, view.ready, view.gpus, view.provider_id) == ("u", True, 2, "gce://p/z/n")


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
        "karpenter.sh/disrupted",
        "ToBeDeletedByClusterAutoscaler",
    ],
)
def test_taints_that_announce_its_end(key: str) -> None:
    assert node_view(make_node(taints=[{"key": key, "effect": "NoSchedule"}])).marks == [key]


@pytest.mark.parametrize("key", ["node.kubernetes.io/not-ready", "nvidia.com/gpu", "cloud.google.com/gke-spot"])
def test_taints_that_do_not(key: str) -> None:
    assert node_view(make_node(taints=[{"key": key, "effect": "NoSchedule"}])).marks == []


@pytest.mark.parametrize("kind", ["PreemptScheduled", "VMEventScheduled", "TerminateScheduled"])
def test_conditions_that_announce_its_end(kind: str) -> None:
    assert node_view(make_node(conditions=[condition(kind)])).marks == [kind]
    assert node_view(make_node(conditions=[condition(kind, "False")])).marks == []


def test_a_freeze_is_no_end() -> None:
    assert node_view(make_node(conditions=[condition("FreezeScheduled")])).marks == []


def test_a_kubelet_that_shuts_down() -> None:
    shutting_down = condition("Ready", "False", "node is shutting down")
    assert node_view(make_node(conditions=[shutting_down])).marks == [MARK_SHUTDOWN]
