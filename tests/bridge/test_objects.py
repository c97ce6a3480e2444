"""Jobs, pods, nodes and CheckpointBackups: what their workflows hear of them, and what they are spared."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import Client

from api import names
from api.messages import CheckpointChanged, JobStart, NodeChanged, PreemptionNotice, ReplicaChanged, VmStart
from api.spot_instance_vm import SpotInstanceVMSpec
from crd_bridge.bridge import Bridge
from tests.bridge.recorder import eventually, heard

QUIET = 1.5  # seconds in which something that must not be reported would have been reported
CHECKPOINT_CRD = Path(__file__).parents[2] / "sandbox" / "checkpoint_operator" / "crd.yaml"
JOB_ID = "0a1b2c3d"
LABELS = {
    names.LABEL_JOB: JOB_ID,
    names.LABEL_REPLICA: "1",
    names.LABEL_INCARNATION: "2",
    names.LABEL_MANAGED_BY: names.MANAGED_BY,
}


class Cluster:
    """Writes what the worker, the scheduler and the kubelets would write."""

    def __init__(self, kubectl: Any, namespace: str) -> None:
        self.kubectl, self.namespace = kubectl, namespace
        self.nodes: list[str] = []

    @property
    def meta(self) -> dict[str, Any]:
        annotations = {names.ANNOTATION_WORKFLOW: f"{self.namespace}/train"}
        return {"namespace": self.namespace, "labels": LABELS, "annotations": annotations}

    async def create(self, manifest: dict[str, Any]) -> None:
        await self.kubectl("create", "-f", "-", stdin=json.dumps(manifest))

    async def patch(self, kind: str, name: str, patch: dict[str, Any], *, status: bool = True) -> None:
        options = ["--subresource=status"] if status else []
        where = [] if kind == "node" else ["-n", self.namespace]
        await self.kubectl("patch", kind, name, *where, *options, "--type=merge", "-p", json.dumps(patch))

    async def job(self) -> None:
        """Make a Job as the worker does; its pod is the controller's, on a node that nobody runs."""
        name = f"node-{secrets.token_hex(4)}"
        await self.node(name)
        pod = {
            "restartPolicy": "Never",
            "nodeName": name,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "train", "image": "busybox"}],
        }
        template = {"metadata": {key: self.meta[key] for key in ("labels", "annotations")}, "spec": pod}
        await self.create(
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": "train-r1", **self.meta},
                "spec": {"backoffLimit": 0, "template": template},
            }
        )

    async def pod(self, node: str) -> None:
        """Make a pod on a node, as one that was scheduled there."""
        spec = {"nodeName": node, "containers": [{"name": "train", "image": "busybox"}]}
        spec |= {"tolerations": [{"operator": "Exists"}]}
        await self.create(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "on-node", **self.meta}, "spec": spec}
        )

    async def node(self, name: str) -> None:
        self.nodes.append(name)
        await self.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})

    async def backup(self, name: str = "train-c1") -> None:
        await self.create(
            {
                "apiVersion": "migration.dcnlab.com/v1",
                "kind": "CheckpointBackup",
                "metadata": {"name": name, **self.meta},
                "spec": {
                    "schedule": "immediately",
                    "podRef": {"name": "on-node", "namespace": self.namespace},
                    "resourceRef": {"apiVersion": "batch/v1", "kind": "Job", "name": "train-r1"},
                },
            }
        )


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def checkpoint_crd(control_plane: Any) -> None:
    await control_plane.kubectl("apply", "--server-side", "-f", CHECKPOINT_CRD)
    await control_plane.kubectl("wait", "--for=condition=Established", "--timeout=100s", "-f", CHECKPOINT_CRD)


@pytest.fixture
async def world(control_plane: Any, namespace: str, checkpoint_crd: None) -> AsyncIterator[Cluster]:
    world = Cluster(control_plane.kubectl, namespace)
    yield world
    for name in world.nodes:
        await control_plane.kubectl("delete", "node", name, "--ignore-not-found")


@pytest.fixture
async def workflow(recording: Client, namespace: str) -> str:
    """Start the job's workflow, which listens."""
    start = JobStart(namespace=namespace, name="train", uid="uid", cluster_id="this-cluster", job_id=JOB_ID)
    workflow_id = f"{namespace}/train"
    await recording.start_workflow(names.JOB_WORKFLOW, start, id=workflow_id, task_queue=names.TASK_QUEUE)
    return workflow_id


async def all_said(bridge: Bridge) -> None:
    """Wait until the bridge has nothing left to report."""

    async def silent() -> bool:
        return bridge._queues.idle

    await eventually(silent, "all messages to be sent")


async def replicas(client: Client, workflow: str) -> list[ReplicaChanged]:
    return [ReplicaChanged.model_validate(each) for each in await heard(client, workflow, "replica_changed")]


async def test_a_replica_is_told_by_its_phases(
    world: Cluster, workflow: str, bridge: Any, client: Client, namespace: str
) -> None:
    async with bridge():
        await world.job()

        async def pod() -> Any:
            told = await replicas(client, workflow)
            return told[-1].view.pod if told else None

        name = (await eventually(pod, "the pod is told")).name
        started = "2026-01-01T00:00:00Z"
        running = {"phase": "Running", "containerStatuses": [status(running={"startedAt": started})]}
        await world.patch("pod", name, {"status": running})

        async def is_running() -> Any:
            found = await pod()
            return found.phase == "Running" and found.started_at

        await eventually(is_running, "the running pod is told")
        told = len(await replicas(client, workflow))
        # Ready or not decides nothing.
        await world.patch("pod", name, {"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        await asyncio.sleep(QUIET)
        assert len(await replicas(client, workflow)) == told

        beside = {**status(terminated={"exitCode": 0, "finishedAt": started}), "name": "proxy"}
        await world.patch(
            "pod", name, {"status": {"containerStatuses": [status(running={"startedAt": started}), beside]}}
        )

        async def proxy_ended() -> Any:
            return [(end.name, end.exit_code) for end in (await pod()).ends] == [("proxy", 0)]

        await eventually(proxy_ended, "the end of one container beside another is told")
        ended = {"phase": "Failed", "containerStatuses": [status(terminated={"exitCode": 3, "finishedAt": started})]}
        await world.patch("pod", name, {"status": ended})

        async def failed() -> Any:
            return (await pod()).exit_code == 3 and (await replicas(client, workflow))[-1].view.job_failed

        await eventually(failed, "the exit and the Job's failure are told")
        await world.kubectl("delete", "job", "train-r1", "-n", namespace, "--cascade=foreground", "--wait=false")

        async def gone() -> Any:
            view = (await replicas(client, workflow))[-1].view
            return not view.job_exists and view.pod is None

        await eventually(gone, "that it is gone is told")
    everything = await replicas(client, workflow)
    assert {(each.job_id, each.replica, each.incarnation) for each in everything} == {(JOB_ID, 1, 2)}
    versions = [each.version for each in everything]
    assert versions == sorted(set(versions))
    # No pod without its Job, though two watches reported them.
    assert all(each.view.job_exists for each in everything if each.view.pod)


def status(**state: Any) -> dict[str, Any]:
    return {
        "name": "train", "image": "busybox", "imageID": "", "ready": False, "restartCount": 0, "state": state,
    }  # fmt: skip


async def test_a_job_that_is_suspended_and_let_go_on_is_told(
    world: Cluster, workflow: str, bridge: Any, client: Client, namespace: str
) -> None:
    async def told(suspended: bool) -> bool:
        seen = [each.view for each in await replicas(client, workflow)]
        return bool(seen) and (seen[-1].suspended, seen[-1].suspended_by) == (
            suspended,
            "kubectl-patch" if suspended else None,
        )

    async with bridge():
        await world.job()
        for suspended in (True, False):
            await world.patch("job", "train-r1", {"spec": {"suspend": suspended}}, status=False)
            await eventually(lambda wanted=suspended: told(wanted), f"suspend: {suspended} is told")


async def test_a_bridge_that_comes_later_tells_what_is(
    world: Cluster, workflow: str, bridge: Any, client: Client
) -> None:
    await world.job()
    async with bridge():

        async def pod() -> Any:
            told = await replicas(client, workflow)
            return told[-1].view.pod if told else None

        await eventually(pod, "the pod is told")


async def test_a_bridge_that_follows_another_one_tells_what_has_changed_since(
    world: Cluster, workflow: str, bridge: Any, client: Client
) -> None:
    name = f"node-{secrets.token_hex(4)}"
    await world.node(name)
    await world.pod(name)
    await mark(world, name)
    async with bridge() as first:
        await eventually(lambda: notices(client, workflow), "the notice")
        await eventually(lambda: replicas(client, workflow), "the pod")
        await asyncio.sleep(QUIET)
        await all_said(first)
    before = len(await replicas(client, workflow))
    async with bridge(first.reported) as second:
        await asyncio.sleep(QUIET)
        assert len(await notices(client, workflow)) == 1
        assert len(await replicas(client, workflow)) == before
        await world.kubectl("delete", "pod", "on-node", "-n", world.namespace, "--grace-period=0", "--force")

        async def gone() -> bool:
            return (await replicas(client, workflow))[-1].view.pod is None

        await eventually(gone, "that the pod is gone is told")

        async def kept() -> bool:
            return second.reported.versions["pods"] > first.reported.versions["pods"]

        await eventually(kept, "the next bridge would know of it")


async def test_what_was_deleted_while_no_bridge_acted_is_told(
    world: Cluster, workflow: str, bridge: Any, client: Client
) -> None:
    name = f"node-{secrets.token_hex(4)}"
    await world.node(name)
    await world.pod(name)
    await world.backup()
    await world.patch("checkpointbackup", "train-c1", {"status": {"phase": "Checkpointing"}})
    async with bridge() as first:
        await eventually(lambda: replicas(client, workflow), "the pod")
        await asyncio.sleep(QUIET)
        await all_said(first)
    for kind, which in (("pod", "on-node"), ("checkpointbackup", "train-c1")):
        await world.kubectl("delete", kind, which, "-n", world.namespace, "--grace-period=0", "--force")
    async with bridge(first.reported):

        async def gone() -> bool:
            (*_, backup) = await heard(client, workflow, "checkpoint_changed")
            (*_, replica) = await replicas(client, workflow)
            return replica.view.pod is None and not backup["view"]["exists"]

        await eventually(gone, "that both are gone is told")


async def test_who_writes_in_one_namespace_reaches_no_job_of_another(
    world: Cluster, workflow: str, bridge: Any, client: Client, control_plane: Any
) -> None:
    stranger = f"test-{secrets.token_hex(4)}"
    await control_plane.kubectl("create", "namespace", stranger)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**world.meta, "name": "forged", "namespace": stranger},
        "spec": {"containers": [{"name": "train", "image": "busybox"}]},
    }
    async with bridge():
        await eventually(
            lambda: control_plane.kubectl("get", "sa", "default", "-n", stranger), "the namespace is ready"
        )
        await world.create(pod)
        await asyncio.sleep(QUIET)
    assert await replicas(client, workflow) == []
    await control_plane.kubectl("delete", "namespace", stranger, "--wait=false")


async def test_a_pod_that_a_kubelet_made_is_no_replica(
    world: Cluster, workflow: str, bridge: Any, client: Client
) -> None:
    """Root on any Node may make one in any namespace, with any labels."""
    node = f"node-{secrets.token_hex(4)}"
    await world.node(node)
    meta = {**world.meta, "annotations": world.meta["annotations"] | {"kubernetes.io/config.mirror": "x"}}
    spec = {"nodeName": node, "containers": [{"name": "train", "image": "busybox"}]}
    async with bridge():
        await world.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "forged", **meta}, "spec": spec})
        await asyncio.sleep(QUIET)
    assert await replicas(client, workflow) == []


async def test_of_a_checkpoint_only_the_end_is_told(
    world: Cluster, workflow: str, bridge: Any, client: Client, namespace: str
) -> None:
    async def told() -> list[CheckpointChanged]:
        return [CheckpointChanged.model_validate(each) for each in await heard(client, workflow, "checkpoint_changed")]

    async def heard_of(count: int) -> None:
        async def enough() -> bool:
            return len(await told()) == count

        await eventually(enough, f"{count} messages")

    async with bridge():
        await world.backup()
        for phase in ("Checkpointing", "Checkpointed", "ImageBuilding", "ImagePushing"):
            await world.patch("checkpointbackup", "train-c1", {"status": {"phase": phase}})
        image = {"containerName": "train", "imageName": "team/train:tag", "pushed": True}
        await world.patch("checkpointbackup", "train-c1", {"status": {"phase": "Completed", "builtImages": [image]}})
        await heard_of(1)
        await world.kubectl("delete", "checkpointbackup", "train-c1", "-n", namespace)
        await world.backup("train-c2")
        await world.kubectl("delete", "checkpointbackup", "train-c2", "-n", namespace)
        await heard_of(2)
    end, gone = await told()
    assert (end.view.phase, end.view.ended) == ("Completed", True)
    assert (gone.view.name, gone.view.exists) == ("train-c2", False)  # the first had ended before it went
    assert end.version < gone.version


def bought() -> tuple[str, str]:
    """Return (key, node's name) of a VM of the job."""
    key = names.vm_key(secrets.token_hex(4), 1, 1)
    return key, names.vm_name(key, 1)


READY = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}


async def test_a_vm_hears_when_its_node_is_ready_has_its_gpus_and_is_gone(
    world: Cluster, recording: Client, bridge: Any, namespace: str
) -> None:
    key, name = bought()
    spec = {"vmImage": "i", "gcp": {"project": "p", "zone": "us-central1-a", "machineType": "m"}}
    start = VmStart(
        key=key, cluster_id="this-cluster", job_id=JOB_ID, replica=1, namespace=namespace, job_name="train",
        job_uid="uid", vm_name="t4", spec=SpotInstanceVMSpec.model_validate(spec),
    )  # fmt: skip
    vm = names.vm_workflow_id(key)
    await recording.start_workflow(names.VM_WORKFLOW, start, id=vm, task_queue=names.TASK_QUEUE)

    async def views() -> Any:
        return [NodeChanged.model_validate(each).view for each in await heard(recording, vm, "node_changed")]

    async def last(**wanted: Any) -> None:
        async def told() -> bool:
            return bool(found := await views()) and {key: getattr(found[-1], key) for key in wanted} == wanted

        await eventually(told, f"{wanted} is told")

    async with bridge():
        await world.node(name)
        await last(exists=True, ready=False)
        await world.patch("node", name, {"status": {"conditions": [READY]}})
        await last(ready=True, gpus=0)
        await world.patch("node", name, {"status": {"allocatable": {names.GPU_RESOURCE: "2"}}})
        await last(ready=True, gpus=2)
        await world.patch("node", name, {"metadata": {"labels": {"pool": "a"}}}, status=False)
        await asyncio.sleep(QUIET)
        # Not counted: the node has no kubelet, so the control plane itself changes it after a while.
        assert all(before != after for before, after in pairwise(await views())), "nothing is told twice"
        await world.kubectl("delete", "node", name)
        await last(exists=False)


async def mark(world: Cluster, name: str) -> None:
    await world.kubectl("taint", "node", name, f"{names.TAINT_PREEMPTED}=20260301T120005Z:NoSchedule")


async def notices(client: Client, workflow: str) -> list[PreemptionNotice]:
    return [PreemptionNotice.model_validate(each) for each in await heard(client, workflow, "preemption_notice")]


async def test_a_mark_on_a_node_is_a_notice_to_the_jobs_there(
    world: Cluster, workflow: str, bridge: Any, client: Client
) -> None:
    name = f"node-{secrets.token_hex(4)}"
    await world.node(name)
    async with bridge():
        await world.pod(name)

        async def placed() -> Any:
            return [each for each in await heard(client, workflow, "node_changed") if each["view"]["name"] == name]

        await eventually(placed, "the node of its pod is told to the job")
        assert await notices(client, workflow) == []
        await mark(world, name)
        told = await eventually(lambda: notices(client, workflow), "the notice")
        # Another taint on the same node is no news.
        await world.kubectl("taint", "node", name, "cloud.google.com/impending-node-termination=:NoSchedule")
        await asyncio.sleep(QUIET)
        assert [(each.node, each.source) for each in told] == [(name, names.TAINT_PREEMPTED)]
        assert len(await notices(client, workflow)) == 1


async def test_a_mark_that_came_while_the_bridge_was_away_is_told(
    world: Cluster, workflow: str, bridge: Any, client: Client
) -> None:
    name = f"node-{secrets.token_hex(4)}"
    await world.node(name)
    await world.pod(name)
    await mark(world, name)
    async with bridge():
        (told,) = await eventually(lambda: notices(client, workflow), "the notice")
    assert (told.node, told.at) == (name, datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC))


async def test_the_job_for_which_a_node_was_bought_hears_of_its_mark_before_its_pod_is_there(
    world: Cluster, workflow: str, bridge: Any, client: Client
) -> None:
    _, name = bought()
    await world.node(name)
    await world.patch("node", name, {"metadata": {"annotations": {names.ANNOTATION_WORKFLOW: workflow}}}, status=False)
    async with bridge():
        await mark(world, name)
        assert await eventually(lambda: notices(client, workflow), "the notice")


async def test_nobody_to_tell_is_no_failure(world: Cluster, bridge: Any, caplog: pytest.LogCaptureFixture) -> None:
    name = f"node-{secrets.token_hex(4)}"
    await world.node(name)
    async with bridge():
        await world.pod(name)
        await mark(world, name)
        await asyncio.sleep(QUIET)
    assert not [record for record in caplog.records if record.name == "crd_bridge.queues"]
