"""The checkpoint operator's traps: those that it always has, and those played on request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from sandbox.checkpoint_operator import CheckpointOperator
from sandbox.checkpoint_operator.operator import CRD, STUB_CRD
from sandbox.checkpoint_operator.traps import (
    ABSENT,
    CRI_O,
    FAIL,
    NO_IMAGE,
    POISON,
    PRESENT,
    SILENT,
    SLOW,
    STICK,
    UNPUSHED,
)
from sandbox.control_plane import ControlPlane
from sandbox.kube_client import MERGE, ApiError, KubeClient
from sandbox.machines.light.kubelet.kubelet import Kubelet
from sandbox.oci import OciClient, RegistryError
from tests.sandbox.checkpoints import BACKUPS, FINALIZER, SILENCE, Backups
from tests.sandbox.light_nodes import SPEED, Nodes, eventually, start_training, training_pod

Json = dict[str, Any]


@pytest_asyncio.fixture
async def node(admin: KubeClient, namespace: str, nodes: Nodes) -> str:
    """Start a node on which the pod ``source`` trains."""
    name = await nodes.start()
    await start_training(admin, namespace, "source", name)
    return name


async def is_gone(backups: Backups, name: str) -> bool:
    try:
        await backups.get(name)
    except ApiError as error:
        return error.status == 404
    return False


async def image_exists(backups: Backups, tag: str) -> bool:
    async with OciClient(backups.registry, plain_http=True) as registry:
        try:
            await registry.manifest(f"{backups.namespace}/train", tag)
        except RegistryError as error:
            assert error.status == 404  # noqa: PT017
            return False
    return True


@pytest.mark.usefixtures("node")
async def test_a_pod_reference_without_namespace_is_skipped_in_silence(backups: Backups) -> None:
    await backups.create("nowhere", "source", podRef={"name": "source"})
    await backups.stays_silent("nowhere")
    assert (await backups.get("nowhere"))["metadata"]["finalizers"] == [FINALIZER]


@pytest.mark.usefixtures("node")
async def test_a_registry_without_containers_is_completed_without_images(backups: Backups) -> None:
    await backups.create("empty", "source", containers=[])
    status = await backups.reach("empty")
    assert status["phase"] == "Completed"
    assert "builtImages" not in status


@pytest.mark.usefixtures("nodes")
async def test_a_missing_pod_is_skipped_in_silence(backups: Backups) -> None:
    await backups.create("missing", "nobody")
    await backups.stays_silent("missing")


async def test_a_pod_that_does_not_run_is_skipped_for_ever(
    admin: KubeClient, namespace: str, nodes: Nodes, backups: Backups
) -> None:
    name = await nodes.start()
    volumes = [{"name": "late", "configMap": {"name": "late"}}]
    await admin.create(f"/api/v1/namespaces/{namespace}/pods", training_pod("late", name, volumes=volumes))

    async def is_bound() -> bool:
        pod = await admin.get(f"/api/v1/namespaces/{namespace}/pods/late")
        return bool(pod["status"].get("containerStatuses"))

    await eventually("pod bound", is_bound)
    await backups.create("early", "late")
    await backups.stays_silent("early")
    await admin.create(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "late"}})

    async def runs() -> bool:
        pod = await admin.get(f"/api/v1/namespaces/{namespace}/pods/late")
        return pod["status"]["phase"] == "Running"

    await eventually("pod Running", runs)
    await backups.stays_silent("early")


@pytest.mark.parametrize("end", [Kubelet.kill, partial(Kubelet.shutdown, grace=10)], ids=["dies", "shuts down"])
async def test_an_agent_whose_machine_ends_leaves_the_phase_as_it_was(
    node: str, nodes: Nodes, backups: Backups, operator: CheckpointOperator, end: Callable[[Kubelet], Awaitable[None]]
) -> None:
    await operator.play(SLOW, factor=1000)
    await backups.create("cut", "source")
    await backups.reach("cut", "ImageBuilding")
    await end(nodes.kubelets[node])
    await asyncio.sleep(SILENCE)
    assert (await backups.status("cut"))["phase"] == "ImageBuilding"


async def test_failed_is_final(admin: KubeClient, node: str, backups: Backups) -> None:
    await backups.create("wrong", "source", containers=[{"name": "no-such", "image": "a/b:c"}])
    status = await backups.reach("wrong")
    assert status["phase"] == "Failed"
    assert "no-such does not exist" in status["message"]
    await admin.patch(f"{backups.path}/wrong", {"spec": {"containers": [{"name": "trainer", "image": "a/b:c"}]}})
    await asyncio.sleep(SILENCE)
    assert (await backups.status("wrong"))["phase"] == "Failed"


@pytest_asyncio.fixture
async def unnamed(admin: KubeClient) -> None:
    """Delete all CheckpointBackups, so that none names a registry when the operator starts: an agent keeps the first
    one.
    """
    try:
        left = (await admin.get("/apis/migration.dcnlab.com/v1/checkpointbackups"))["items"]
    except ApiError as error:
        assert error.status == 404  # noqa: PT017 - the operator brings the definition
        return
    for metadata in (backup["metadata"] for backup in left):
        path = f"{BACKUPS.format(metadata['namespace'])}/{metadata['name']}"
        await admin.patch(path, {"metadata": {"finalizers": None}}, MERGE)
        with contextlib.suppress(ApiError):  # it waited only for its finalizer
            await admin.delete(path)


@pytest.mark.usefixtures("unnamed", "node")
async def test_a_bad_secret_fails_before_any_phase_and_heals(backups: Backups) -> None:
    registry = {
        "url": backups.registry,
        "repository": "unused",
        "secretRef": {"name": "late", "namespace": backups.namespace},
    }
    await backups.create("unlocked", "source", registry=registry)
    await backups.stays_silent("unlocked")
    assert "finalizers" not in (await backups.get("unlocked"))["metadata"]
    await backups.create_secret("late")
    assert (await backups.reach("unlocked"))["phase"] == "Completed"


@pytest.mark.usefixtures("node")
async def test_stop_pod_ends_with_an_error_and_an_image(backups: Backups) -> None:
    await backups.create("stopping", "source", stopPod=True)
    status = await backups.reach("stopping", "CompletedWithError")
    assert status["builtImages"][0]["pushed"] is True


@pytest.mark.usefixtures("node")
async def test_stop_pod_works_if_the_agent_may_delete_pods(
    control_plane: ControlPlane, admin: KubeClient, backups: Backups, operator: CheckpointOperator
) -> None:
    await operator.play(ABSENT)
    mighty = CheckpointOperator(control_plane.kubeconfig, SPEED, may_delete_pods=True)
    await mighty.start()
    try:
        await backups.create("stopping", "source", stopPod=True)
        await backups.reach("stopping", "CompletedPodDeleted")
        pods = await admin.get(f"/api/v1/namespaces/{backups.namespace}/pods")
        assert all("deletionTimestamp" in pod["metadata"] for pod in pods["items"])
    finally:
        await mighty.stop()


@pytest.mark.usefixtures("node")
async def test_deleting_a_backup_does_not_cancel_its_checkpoint(
    admin: KubeClient, backups: Backups, may_push: asyncio.Event
) -> None:
    await backups.create("deleted", "source")
    await backups.reach("deleted", "ImagePushing")
    await admin.delete(f"{backups.path}/deleted")
    await eventually("CheckpointBackup gone", lambda: is_gone(backups, "deleted"))
    assert not await image_exists(backups, "deleted")
    may_push.set()
    await eventually("its image", lambda: image_exists(backups, "deleted"))


@pytest.mark.usefixtures("node")
async def test_a_host_within_the_image_name_fails(backups: Backups) -> None:
    await backups.create("hosted", "source", image=f"{backups.registry}/{backups.namespace}/train:hosted")
    status = await backups.reach("hosted")
    assert status["phase"] == "Failed"


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("phase", ["Checkpointing", "ImageBuilding", "ImagePushing", "ImagePushed"])
async def test_played_stuck(backups: Backups, operator: CheckpointOperator, phase: str) -> None:
    await operator.play(STICK, phase=phase)
    await backups.create("stuck", "source")
    await backups.reach("stuck", phase)
    await asyncio.sleep(SILENCE)
    assert (await backups.status("stuck"))["phase"] == phase
    await backups.create("next", "source")
    assert (await backups.reach("next"))["phase"] == "Completed"


@pytest.mark.usefixtures("node")
async def test_played_silent(backups: Backups, operator: CheckpointOperator) -> None:
    await operator.play(SILENT)
    await backups.create("unseen", "source")
    await backups.stays_silent("unseen")


@pytest.mark.usefixtures("node")
async def test_played_completed_without_image(backups: Backups, operator: CheckpointOperator) -> None:
    await operator.play(NO_IMAGE)
    await backups.create("hollow", "source")
    status = await backups.reach("hollow")
    assert status["phase"] == "Completed"
    assert "builtImages" not in status
    assert not await image_exists(backups, "hollow")


@pytest.mark.usefixtures("node")
async def test_played_unpushed(backups: Backups, operator: CheckpointOperator) -> None:
    await operator.play(UNPUSHED)
    await backups.create("kept", "source")
    status = await backups.reach("kept")
    assert status["phase"] == "Completed"
    assert not status["builtImages"][0].get("pushed")
    assert not await image_exists(backups, "kept")


@pytest.mark.usefixtures("node")
async def test_played_failed(backups: Backups, operator: CheckpointOperator) -> None:
    await operator.play(FAIL, phase="ImagePushing", count=2)
    for name in ("one", "two"):
        await backups.create(name, "source")
        assert (await backups.reach(name))["phase"] == "Failed"
    await backups.create("three", "source")
    assert (await backups.reach("three"))["phase"] == "Completed"


@pytest.mark.usefixtures("node")
async def test_played_absent_hangs_the_finalizer_until_present(
    admin: KubeClient, backups: Backups, operator: CheckpointOperator
) -> None:
    await backups.create("hangs", "source")
    await backups.reach("hangs")
    await operator.play(ABSENT)
    await admin.delete(f"{backups.path}/hangs")
    await backups.create("unserved", "source")
    await backups.stays_silent("unserved")
    assert not await is_gone(backups, "hangs")
    await operator.play(PRESENT)
    await eventually("CheckpointBackup gone", lambda: is_gone(backups, "hangs"))
    assert (await backups.reach("unserved"))["phase"] == "Completed"


@pytest.mark.usefixtures("node")
async def test_played_poison_leaves_an_image_without_its_layer(backups: Backups, operator: CheckpointOperator) -> None:
    await operator.play(POISON)
    await backups.create("poisoned", "source")
    status = await backups.reach("poisoned")
    assert (status["phase"], status["builtImages"][0]["pushed"]) == ("Completed", True)
    repository = f"{backups.namespace}/train"
    async with OciClient(backups.registry, plain_http=True) as registry:
        manifest, _ = await registry.manifest(repository, "poisoned")
        with pytest.raises(RegistryError, match=r"(?i)blob"):
            await registry.blob(repository, manifest["layers"][0]["digest"])


@pytest.mark.usefixtures("node")
async def test_played_cri_o_leaves_an_image_that_containerd_does_not_know(
    backups: Backups, operator: CheckpointOperator
) -> None:
    await operator.play(CRI_O)
    await backups.create("one-sided", "source")
    await backups.reach("one-sided")
    async with OciClient(backups.registry, plain_http=True) as registry:
        manifest, _ = await registry.manifest(f"{backups.namespace}/train", "one-sided")
    assert "io.kubernetes.cri-o.annotations.checkpoint.name" in manifest["annotations"]
    assert "org.criu.checkpoint.container.name" not in manifest["annotations"]


async def test_unknown_traps_are_refused(operator: CheckpointOperator) -> None:
    with pytest.raises(ValueError, match="known are stick"):
        await operator.play("nonsense")
    with pytest.raises(ValueError, match="known are Checkpointing"):
        await operator.play(STICK, phase="Nowhere")


async def test_the_stub_schema_prunes_in_silence(
    control_plane: ControlPlane, operator: CheckpointOperator, backups: Backups
) -> None:
    stub = CheckpointOperator(control_plane.kubeconfig, SPEED, crd=STUB_CRD)
    try:
        await stub.start()

        async def prunes() -> bool:
            name = f"pruned-{asyncio.get_running_loop().time():.0f}"
            await backups.create(name, "nobody", stopPod=True)
            return "stopPod" not in (await backups.get(name))["spec"]

        await eventually("the stub schema", prunes, pause=1.1)
    finally:
        await stub.stop()
        whole = CheckpointOperator(control_plane.kubeconfig, SPEED, crd=CRD)
        await whole.start()
        await whole.stop()
