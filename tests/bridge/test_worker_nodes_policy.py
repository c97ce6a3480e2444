"""Which Nodes and pods the worker's token reaches: those that Outlast bought, and what runs there."""

import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api import names
from api.market import Candidate
from api.node_labels import node_labels
from api.spot_instance_vm import Gpu, NodeLabel
from sandbox.errors import SandboxError
from tests.bridge.policies import AS_WORKER
from tests.bridge.test_worker_policy import POD, create

Json = dict[str, Any]

CANDIDATE = Candidate(zone="us-central1-a", machine_type="n1-standard-4", gpu=Gpu(type="nvidia-tesla-t4", count=1))

MARK = {"key": names.TAINT_PREEMPTED, "value": "20260101T000000Z", "effect": "NoSchedule"}
GPU = {"key": names.GPU_RESOURCE, "value": "0a1b2c3d", "effect": "NoSchedule"}
OURS_TAINT = {"key": f"{names.PREFIX}/bought", "effect": "NoSchedule"}
THEIR_TAINT = {"key": "else.org/a", "effect": "NoExecute"}
THEIRS = {"labels": {"pool": "a"}, "annotations": {"kept": "a"}, "finalizers": ["else.org/kept"]}


@pytest.fixture
async def bought(control_plane: Any, installed: None) -> AsyncIterator[str]:
    """Make a Node that Outlast bought and that has just registered, without any of our labels."""
    async for name in _node(control_plane, names.vm_name(names.vm_key(secrets.token_hex(4), 0, 1), 1)):
        yield name


@pytest.fixture
async def other(control_plane: Any, installed: None) -> AsyncIterator[str]:
    """Make a Node of the cluster's own."""
    async for name in _node(control_plane, f"own-{secrets.token_hex(4)}"):
        yield name


async def _node(control_plane: Any, name: str) -> AsyncIterator[str]:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, **THEIRS}, "spec": {"taints": [GPU, MARK]}}
    await control_plane.kubectl("create", "-f", "-", stdin=json.dumps(node))
    yield name
    free = json.dumps({"metadata": {"finalizers": None}})
    await control_plane.kubectl("patch", "node", name, "--type=merge", "-p", free)
    await control_plane.kubectl("delete", "node", name, "--ignore-not-found")


async def patch(control_plane: Any, name: str, change: Json) -> None:
    await control_plane.kubectl("patch", "node", name, "--type=merge", "-p", json.dumps(change), AS_WORKER)


async def taint(control_plane: Any, name: str, *add: Json, without: Json | None = None) -> None:
    """Set a taint beside those that the cluster's own controllers set, also at this moment."""
    while True:
        found = json.loads(await control_plane.kubectl("get", "node", name, "-o", "json"))
        kept = [each for each in found["spec"]["taints"] if each != without]
        version = {"resourceVersion": found["metadata"]["resourceVersion"]}
        try:
            return await patch(control_plane, name, {"metadata": version, "spec": {"taints": [*kept, *add]}})
        except SandboxError as error:
            if "Conflict" not in str(error):
                raise


async def delete(control_plane: Any, kind: str, name: str, *options: str) -> None:
    await control_plane.kubectl("delete", kind, name, "--wait=false", "--dry-run=server", AS_WORKER, *options)


# --- Nodes


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"labels": {names.LABEL_JOB: "0a1b2c3d", names.LABEL_MANAGED_BY: names.MANAGED_BY}}},
        {"metadata": {"labels": {"topology.kubernetes.io/zone": "a", "topology.kubernetes.io/region": "b"}}},
        {"metadata": {"labels": node_labels(CANDIDATE, [NodeLabel(key="example.com/pool", value="ssd")])}},
        {"metadata": {"labels": {names.LABEL_PLACE: "0a1b2c3d-r0-i0"}}},
        {"metadata": {"annotations": {names.ANNOTATION_WORKFLOW: "default/train"}}},
        {"spec": {"unschedulable": True}},
    ],
    ids=json.dumps,
)
async def test_it_prepares_and_cordons_a_bought_node(control_plane: Any, bought: str, change: Json) -> None:
    await patch(control_plane, bought, change)


async def test_it_puts_its_own_taints_on_a_bought_node_and_takes_them_off(control_plane: Any, bought: str) -> None:
    await taint(control_plane, bought, OURS_TAINT)
    await taint(control_plane, bought, without=OURS_TAINT)


async def test_it_deletes_a_bought_node(control_plane: Any, bought: str) -> None:
    await delete(control_plane, "node", bought)


async def test_it_takes_the_agents_mark_off_any_node(control_plane: Any, other: str) -> None:
    await taint(control_plane, other, without=MARK)


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY}}},
        {"metadata": {"labels": {"example.com/pool": "ssd"}}},
        {"metadata": {"labels": {"pool": "b"}}},
        {"metadata": {"annotations": {names.ANNOTATION_WORKFLOW: "default/train"}}},
        {"spec": {"unschedulable": True}},
    ],
    ids=json.dumps,
)
async def test_it_changes_nothing_of_a_node_that_outlast_has_not_bought(
    control_plane: Any, other: str, change: Json
) -> None:
    with pytest.raises(SandboxError, match=r"on Nodes that Outlast has bought|may cordon Nodes that"):
        await patch(control_plane, other, change)


async def test_it_writes_the_buyer_into_the_gpu_taint_of_a_bought_node(control_plane: Any, bought: str) -> None:
    await taint(control_plane, bought, {**GPU, "value": "another"}, without=GPU)


@pytest.mark.parametrize(
    ("add", "without"), [([], GPU), ([{**MARK, "value": "later"}], MARK), ([OURS_TAINT], None), ([THEIR_TAINT], None)]
)
async def test_it_changes_no_taint_of_a_node_that_outlast_has_not_bought(
    control_plane: Any, other: str, add: list[Json], without: Json | None
) -> None:
    with pytest.raises(SandboxError, match="the worker may change no taints"):
        await taint(control_plane, other, *add, without=without)


@pytest.mark.parametrize(("add", "without"), [([], GPU), ([THEIR_TAINT], None)])
async def test_it_changes_no_taint_of_a_bought_node_but_its_own(
    control_plane: Any, bought: str, add: list[Json], without: Json | None
) -> None:
    with pytest.raises(SandboxError, match="the worker may change no taints"):
        await taint(control_plane, bought, *add, without=without)


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}},
        {"metadata": {"labels": {"pool": None}}},
        {"metadata": {"labels": {"else.org.node-restriction.kubernetes.io/pool": "a"}}},
        {"metadata": {"annotations": {"kept": "b"}}},
        {"metadata": {"finalizers": None}},
        {"spec": {"providerID": "gce://p/z/n"}},
    ],
    ids=json.dumps,
)
async def test_it_changes_no_more_of_a_bought_node_than_what_it_prepares(
    control_plane: Any, bought: str, change: Json
) -> None:
    with pytest.raises(SandboxError, match="the worker may"):
        await patch(control_plane, bought, change)


async def test_it_deletes_no_other_node(control_plane: Any, other: str) -> None:
    with pytest.raises(SandboxError, match=f"may delete no Node that Outlast has not bought: {other}"):
        await delete(control_plane, "node", other)


# --- pods


async def pod(control_plane: Any, namespace: str, node: str = "", **labels: str) -> str:
    """Make a pod on a node, as somebody else or the Job controller does."""
    await control_plane.kubectl(
        "wait", "--for=create", "serviceaccount/default", "--namespace", namespace, "--timeout=100s"
    )
    name = f"pod-{secrets.token_hex(4)}"
    spec = {**POD, "automountServiceAccountToken": False, **({"nodeName": node} if node else {})}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
    await create(control_plane, namespace, made)
    return name


OURS = {names.LABEL_JOB: "0a1b2c3d", names.LABEL_MANAGED_BY: names.MANAGED_BY}


async def test_it_stops_a_replicas_pod_wherever_it_runs(control_plane: Any, other: str, namespace: str) -> None:
    name = await pod(control_plane, namespace, other, **OURS)
    await delete(control_plane, "pod", name, "-n", namespace)


async def test_it_drains_a_bought_node(control_plane: Any, bought: str, namespace: str) -> None:
    name = await pod(control_plane, namespace, bought)
    await delete(control_plane, "pod", name, "-n", namespace)


@pytest.mark.parametrize("where", ["other node", "no node"])
async def test_it_stops_no_pod_of_anybody_else(control_plane: Any, other: str, namespace: str, where: str) -> None:
    name = await pod(control_plane, namespace, other if where == "other node" else "")
    with pytest.raises(SandboxError, match="stop no pods but those of its own Jobs"):
        await delete(control_plane, "pod", name, "-n", namespace)


async def evict(control_plane: Any, namespace: str, name: str, query: str = "") -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    where = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction{query}"
    await control_plane.kubectl("create", "--raw", where, "-f", "-", AS_WORKER, stdin=json.dumps(eviction))


async def test_it_asks_whether_a_pod_may_be_evicted(control_plane: Any, other: str, namespace: str) -> None:
    await evict(control_plane, namespace, await pod(control_plane, namespace, other), "?dryRun=All")


async def test_it_evicts_nobody(control_plane: Any, bought: str, namespace: str) -> None:
    """An eviction does not say on which node the pod is; the deletion that follows it does."""
    name = await pod(control_plane, namespace, bought)
    with pytest.raises(SandboxError, match="evict no pods"):
        await evict(control_plane, namespace, name)


def of_a_job(node: str = "") -> Json:
    spec = {**POD, "automountServiceAccountToken": False, **({"nodeName": node} if node else {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "pod-", "labels": OURS}, "spec": spec}


@pytest.mark.parametrize("where", ["default", "kube-system"])
async def test_it_asks_whether_a_pod_would_be_admitted(control_plane: Any, installed: None, where: str) -> None:
    await create(control_plane, where, of_a_job(), AS_WORKER, "--dry-run=server")


async def test_it_makes_no_pod(control_plane: Any, bought: str, namespace: str) -> None:
    """It may not make one that looks like a replica's, on a machine that was bought for it."""
    for made in (of_a_job(), of_a_job(bought)):
        with pytest.raises(SandboxError, match="the worker may make and change no pods, and only ask by a dry run"):
            await create(control_plane, namespace, made, AS_WORKER)
    assert "pod-" not in str(await control_plane.kubectl("get", "pods", "-n", namespace, "-o", "name"))
