"""Whether a pod fits a node, for each filter of the scheduler that we know, as a table."""

from decimal import Decimal
from typing import Any

import pytest

from activities.placement.activities import placed
from activities.placement.demand import demand_of, parse_quantity
from activities.placement.fitting import NODES, Fit, Taken, choose, survey
from activities.placement.hosts import host_of
from api.names import vm_name
from api.node_labels import ZONE

Json = dict[str, Any]
GPU = "nvidia.com/gpu"


def make_node(name: str = "n1", gpus: int = 1, *, labels: Json | None = None, ready: str = "True", **spec: Any) -> Json:
    # In the units in which a kubelet writes them.
    allocatable = {"cpu": "4", "memory": "16777216Ki", "ephemeral-storage": "267847642337", "pods": "10"} | (
        {GPU: str(gpus)} if gpus else {}
    )
    return {
        "metadata": {"name": name, "uid": name, "labels": labels or {}},
        "spec": spec,
        "status": {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": ready}]},
    }


def unfit(condition: str) -> Json:
    node = make_node()
    node["status"]["conditions"].append({"type": condition, "status": "True"})
    return node


def make_pod(requests: Json | None = None, *, node: str | None = "n1", phase: str = "Running", **more: Any) -> Json:
    metadata = {"annotations": more.pop("annotations", {})}
    containers = [{"name": "train", "resources": {"requests": requests or {}}}]
    spec = {"containers": containers, **({"nodeName": node} if node else {}), **more}
    return {"metadata": metadata, "spec": spec, "status": {"phase": phase}}


def cdi(*devices: str, **more: Any) -> Json:
    value = ",".join(f"{GPU}={device}" for device in devices)
    return make_pod(annotations={"container.devices.cdi.k8s.io/train": value}, **more)


WANTED = make_pod({GPU: 1}, node=None)
TAINT = {"key": "dedicated", "value": "ml", "effect": "NoSchedule"}


def fit_of(nodes: list[Json], pod: Json = WANTED, *others: Json, avoid: tuple[str, ...] = (), **gang: Any) -> Fit:
    bound = [placed(other) for other in others]

    def taken_on(node: str) -> Taken:
        return Taken.by(each.demand for each in bound if each.node == node)

    hosts = {host.name: host for host in map(host_of, nodes)}
    return choose(survey(hosts.values(), taken_on, pod), hosts, avoid, **gang)


def fits(node: Json, pod: Json = WANTED, *others: Json) -> bool:
    return fit_of([node], pod, *others).nodes == [node["metadata"]["name"]]


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (make_node(ready="False"), "not Ready"),
        (make_node(ready="Unknown"), "not Ready"),
        (make_node(unschedulable=True), "cordoned"),
        (unfit("XIDErrors"), "unfit (XIDErrors)"),
        (make_node(taints=[TAINT]), "with a taint that the template does not tolerate"),
        (make_node(taints=[TAINT | {"effect": "NoExecute"}]), "with a taint that the template does not tolerate"),
        (make_node(taints=[{"key": "training.dcnlab.com/preempted", "effect": "NoSchedule"}]), "about to go"),
        (make_node(gpus=0), "with too few free GPUs"),
        (make_node(vm_name("0badcafe-r0-v1", 1)), "bought for one replica alone"),
        (make_node(vm_name("0badcafe-r0-v1", 1), unschedulable=True), "bought for one replica alone"),
        (make_node(labels={"training.dcnlab.com/job": "0badcafe"}), "bought for one replica alone"),
    ],
)
def test_nodes_that_are_passed_over(node: Json, why: str) -> None:
    fit = fit_of([node])
    assert fit.nodes == []
    assert fit.reason == f"nodes without room: 1 {why}"


def test_an_idle_node_fits() -> None:
    assert fits(make_node())


def test_a_soft_taint_does_not_matter() -> None:
    assert fits(make_node(taints=[TAINT | {"effect": "PreferNoSchedule"}]))


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"key": "dedicated", "value": "ml", "effect": "NoSchedule"}, True),
        ({"key": "dedicated", "operator": "Equal", "value": "ml"}, True),
        ({"key": "dedicated", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "dedicated", "value": "web"}, False),
        ({"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"value": "ml"}, False),
    ],
)
def test_tolerations(toleration: Json, tolerated: bool) -> None:
    pod = make_pod({GPU: 1}, node=None, tolerations=[toleration])
    assert fits(make_node(taints=[TAINT]), pod) is tolerated


def test_tolerating_everything_does_not_open_a_bought_node() -> None:
    pod = make_pod({GPU: 1}, node=None, tolerations=[{"operator": "Exists"}])
    assert not fits(make_node(vm_name("0badcafe-r0-v1", 1)), pod)


@pytest.mark.parametrize(
    ("others", "free"),
    [
        ([make_pod({GPU: 1})], True),
        ([make_pod({GPU: 2})], False),
        ([make_pod({GPU: 1}), make_pod({GPU: "1"})], False),
        ([make_pod({GPU: 2}, phase="Pending")], False),  # bound, its image is being pulled
        ([make_pod({GPU: 2}, node="n2")], True),
        ([cdi("0")], True),
        ([cdi("0", "1")], False),
        ([cdi("all")], False),
    ],
)
def test_gpus_that_others_have(others: list[Json], free: bool) -> None:
    assert fits(make_node(gpus=2), WANTED, *others) is free


@pytest.mark.parametrize(
    ("node", "others", "free"),
    [
        (make_node(gpus=1), [], True),
        (make_node(gpus=1), [make_pod({GPU: 1})], False),
        (make_node(gpus=2), [cdi("0")], False),  # the same device
        (make_node(gpus=2), [cdi("1")], True),
        (make_node(gpus=0), [], False),
        (make_node(gpus=0, labels={"nvidia.com/gpu.present": "true"}), [], True),
        (make_node(gpus=0, labels={"nvidia.com/gpu.present": "true"}), [cdi("1")], False),
        (make_node(gpus=0, labels={"nvidia.com/gpu.present": "true", "nvidia.com/gpu.count": "2"}), [cdi("1")], True),
    ],
)
def test_cdi_devices(node: Json, others: list[Json], free: bool) -> None:
    assert fits(node, cdi("0", node=None), *others) is free


def test_all_cdi_devices_need_an_idle_node() -> None:
    assert fits(make_node(gpus=2), cdi("all", node=None))
    assert not fits(make_node(gpus=2), cdi("all", node=None), make_pod({GPU: 1}))


@pytest.mark.parametrize(
    ("requests", "fit"),
    [
        ({GPU: 1, "cpu": "4", "memory": "16Gi"}, True),
        ({GPU: 1, "cpu": "4100m"}, False),
        ({GPU: 1, "memory": "17Gi"}, False),
        ({GPU: 1, "example.com/fpga": 1}, False),
    ],
)
def test_other_resources(requests: Json, fit: bool) -> None:
    assert fits(make_node(), make_pod(requests, node=None)) is fit


def test_a_node_full_of_pods() -> None:
    assert not fits(make_node(), WANTED, *[make_pod() for _ in range(10)])


def affinity(*terms: Json) -> Json:
    required = {"nodeSelectorTerms": list(terms)}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


def expression(operator: str, *values: str, key: str = "gpu") -> Json:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("spec", "selected"),
    [
        ({"nodeSelector": {"gpu": "t4"}}, True),
        ({"nodeSelector": {"gpu": "l4"}}, False),
        (affinity(expression("In", "l4", "t4")), True),
        (affinity(expression("NotIn", "t4")), False),
        (affinity(expression("NotIn", "x", key="none")), True),
        (affinity(expression("Exists")), True),
        (affinity(expression("DoesNotExist")), False),
        (affinity(expression("Gt", "15", key="memory")), True),
        (affinity(expression("Lt", "15", key="memory")), False),
        (affinity(expression("Gt", "15")), False),
        (affinity(expression("In", "l4"), expression("In", "t4")), True),
        (affinity({}), False),
        (affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}), True),
    ],
)
def test_selectors(spec: Json, selected: bool) -> None:
    node = make_node(labels={"gpu": "t4", "memory": "16"})
    assert fits(node, make_pod({GPU: 1}, node=None, **spec)) is selected


def test_avoided_nodes_are_left_out() -> None:
    assert fit_of([make_node("a"), make_node("b")], avoid=("a",)).nodes == ["b"]


def test_another_zone_than_that_of_its_siblings_comes_first() -> None:
    zone = "topology.kubernetes.io/zone"
    nodes = [
        make_node("a", labels={zone: "z1"}),
        make_node("b", labels={zone: "z1"}),
        make_node("c", labels={zone: "z2"}),
    ]
    assert fit_of(nodes, avoid=("a",)).nodes == ["c", "b"]


def test_the_tightest_node_comes_first() -> None:
    assert fit_of([make_node("big", gpus=8), make_node("small")]).nodes == ["small", "big"]


def test_of_many_equal_nodes_replicas_are_offered_different_ones() -> None:
    nodes = [make_node(f"n{number}") for number in range(5 * NODES)]
    first, second = fit_of(nodes).nodes, fit_of(nodes).nodes
    assert len(first) == len(second) == NODES
    assert set(first) != set(second)


def test_of_many_nodes_the_best_are_offered() -> None:
    nodes = [make_node(f"n{number}", gpus=2) for number in range(2 * NODES)]
    assert fit_of([*nodes, make_node("tight")]).nodes[0] == "tight"


def test_why_the_others_were_passed_over() -> None:
    fit = fit_of([make_node("a", gpus=0), make_node("b", gpus=0), make_node("c", ready="False")])
    assert fit.reason == "nodes without room: 1 not Ready, 2 with too few free GPUs"


def container(cpu: str, **more: Any) -> Json:
    return {"resources": {"requests": {"cpu": cpu}}, **more}


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        ({"containers": [container("1"), container("500m")]}, "1.5"),
        ({"containers": [container("1")], "initContainers": [container("3"), container("2")]}, "3"),
        ({"containers": [container("1")], "initContainers": [container("1", restartPolicy="Always")]}, "2"),
        (
            {
                "containers": [container("1")],
                "initContainers": [container("1", restartPolicy="Always"), container("3")],
            },
            "4",
        ),
        ({"containers": [container("1")], "overhead": {"cpu": "250m"}}, "1.25"),
        ({"containers": [container("1")], "resources": {"requests": {"cpu": "5"}}}, "5"),
        ({"containers": [{"resources": {"limits": {"cpu": "2"}}}]}, "2"),
        ({"containers": [{"resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}}]}, "1"),
    ],
)
def test_demand_is_counted_as_the_scheduler_does(spec: Json, cpu: str) -> None:
    assert demand_of({"spec": spec}).amounts["cpu"] == Decimal(cpu)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", "1"),
        ("500m", "0.5"),
        ("1e3", "1000"),
        (3, "3"),
        *(
            (f"2{suffix}", f"2e{power}")
            for suffix, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)
        ),
        *((f"3{letter}i", str(3 * 1024**power)) for power, letter in enumerate("KMGTPE", 1)),
    ],
)
def test_quantities(text: Any, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


def test_what_is_no_quantity() -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse_quantity("two")


# --- gangs


def zoned(name: str, zone: str, **node: Any) -> Json:
    return make_node(name, labels={ZONE: zone}, **node)


def test_a_gang_takes_nodes_for_all_of_its_members_or_none() -> None:
    nodes = [make_node("n1"), make_node("n2"), make_node("n3", gpus=0)]
    assert fit_of(nodes, members=2).nodes == ["n1", "n2"]
    fit = fit_of(nodes, members=3)
    assert fit.nodes == []
    assert fit.reason == (
        "2 nodes have room and the gang needs 3 at once; nodes without room: 1 with too few free GPUs"
    )


def test_two_members_never_share_a_node_even_if_it_has_room_for_both() -> None:
    fit = fit_of([make_node("n1", gpus=8)], members=2)
    assert fit.nodes == []
    assert fit.reason == "1 node has room and the gang needs 2 at once"


def test_all_members_are_in_one_zone_if_they_have_to_be() -> None:
    nodes = [zoned("a1", "a"), zoned("b1", "b", gpus=2), zoned("b2", "b", gpus=4)]
    assert fit_of(nodes, members=2).nodes == ["a1", "b1", "b2"]
    assert fit_of(nodes, members=2, one_zone=True).nodes == ["b1", "b2"]
    fit = fit_of(nodes, members=3, one_zone=True)
    assert fit.nodes == []
    assert fit.reason == "3 nodes have room and the gang needs 3 in one zone at once"


def test_a_member_that_is_replaced_stays_in_the_zone_of_the_others() -> None:
    nodes = [zoned("a1", "a"), zoned("b1", "b", gpus=2), zoned("b2", "b", gpus=4)]
    assert fit_of(nodes, one_zone=True).nodes == ["a1"]
    assert fit_of(nodes, one_zone=True, beside=["b1"], avoid=("b1",)).nodes == ["b2"]
    assert fit_of(nodes, beside=["b1"], avoid=("b1",)).nodes == ["a1", "b2"]
    assert fit_of(nodes, one_zone=True, beside=["gone"]).nodes == ["a1"]


def test_a_gang_without_any_room_has_the_usual_reason() -> None:
    assert fit_of([make_node(gpus=0)], members=2).reason == "nodes without room: 1 with too few free GPUs"
