"""The checkpoint operator at work: phases, images, restores, and who does what when."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from sandbox.control_plane import ControlPlane
from sandbox.kube_client import ApiError, KubeClient
from sandbox.oci import OciClient
from tests.sandbox.checkpoints import FINALIZER, Backups
from tests.sandbox.light_nodes import Nodes, env, eventually, start_training, training_pod

Json = dict[str, Any]


async def step_of(control_plane: ControlPlane, namespace: str, pod: str) -> int:
    """Return the last step in a training's log, -1 if it has none."""
    log = await control_plane.kubectl("logs", pod, "-n", namespace)
    return max((int(step) for step in re.findall(r"^step=(\d+)/", log, re.MULTILINE)), default=-1)


async def test_a_checkpoint_becomes_an_image_from_which_a_pod_goes_on(
    admin: KubeClient, namespace: str, nodes: Nodes, backups: Backups, control_plane: ControlPlane
) -> None:
    first, second = await nodes.start(), await nodes.start()
    items = [{"path": "replica", "fieldRef": {"fieldPath": "metadata.labels['replica']"}}]
    volumes = [{"name": "me", "downwardAPI": {"items": items}}]
    mounts = [{"name": "me", "mountPath": "/etc/outlast"}]
    source: Json = {"env": env(SANDBOX_SEED=7), "volumeMounts": mounts}
    await start_training(admin, namespace, "source", first, volumes=volumes, container=source)

    async def far_enough() -> bool:
        return await step_of(control_plane, namespace, "source") >= 20

    await eventually("step 20", far_enough)
    await backups.create("one", "source")
    status = await backups.reach("one")
    assert status["phase"] == "Completed"
    [built] = status["builtImages"]
    assert built["imageName"] == f"{namespace}/train:one"
    assert built["pushed"] is True
    assert built["containerName"] == "trainer"
    assert not {"lastCheckpointTime", "observedGeneration", "conditions"} & status.keys()

    restored = {"volumeMounts": mounts, "env": env(SANDBOX_STEPS=3)}
    image = f"{backups.registry}/{built['imageName']}"
    await start_training(admin, namespace, "restored", second, volumes=volumes, image=image, container=restored)

    async def goes_on() -> bool:
        return await step_of(control_plane, namespace, "restored") > 20

    await eventually("steps of the restored training", goes_on)
    log = await control_plane.kubectl("logs", "restored", "-n", namespace)
    begun = re.search(r"training from step (\d+) of 100000 on host source", log)
    assert begun
    assert int(begun[1]) >= 20
    # The source keeps running after its checkpoint.
    assert await step_of(control_plane, namespace, "source") > int(begun[1])


async def test_phases_come_in_order(admin: KubeClient, namespace: str, nodes: Nodes, backups: Backups) -> None:
    node = await nodes.start()
    await start_training(admin, namespace, "source", node)
    seen: list[str] = []
    listed = asyncio.Event()

    async def watch() -> None:
        async for change in admin.follow(backups.path):
            listed.set()
            for backup in change.object if change.type == "SYNC" else [change.object]:
                phase = backup.get("status", {}).get("phase")
                if phase and (not seen or seen[-1] != phase):
                    seen.append(phase)

    watcher = asyncio.create_task(watch())
    await listed.wait()
    await backups.create("phases", "source")
    await backups.reach("phases")

    async def saw_the_end() -> bool:
        return seen[-1:] == ["Completed"]

    await eventually("the last phase", saw_the_end)
    watcher.cancel()
    assert seen == [
        "Checkpointing",
        "Checkpointed",
        "ImageBuilding",
        "ImageBuilt",
        "ImagePushing",
        "ImagePushed",
        "Completed",
    ]


async def test_the_image_is_one_that_both_runtimes_recognise(
    admin: KubeClient, namespace: str, nodes: Nodes, backups: Backups
) -> None:
    node = await nodes.start()
    await start_training(admin, namespace, "source", node, image="pytorch/pytorch:2.9")
    await backups.create("annotated", "source")
    await backups.reach("annotated")
    async with OciClient(backups.registry, plain_http=True) as registry:
        manifest, _ = await registry.manifest(f"{namespace}/train", "annotated")
    annotations = manifest["annotations"]
    assert annotations["io.kubernetes.cri-o.annotations.checkpoint.name"] == f"{namespace}/train:annotated"
    assert annotations["io.kubernetes.cri-o.annotations.checkpoint.rootfsImageName"] == "pytorch/pytorch:2.9"
    assert annotations["org.criu.checkpoint.container.name"] == "trainer"
    assert annotations["org.opencontainers.image.created"].endswith("Z")


async def test_a_restore_needs_the_sources_mounts(
    admin: KubeClient, namespace: str, nodes: Nodes, backups: Backups
) -> None:
    node = await nodes.start(gpus=2)
    mounts = [{"name": "scratch", "mountPath": "/scratch"}]
    volumes = [{"name": "scratch", "emptyDir": {}}]
    await start_training(admin, namespace, "source", node, volumes=volumes, container={"volumeMounts": mounts})
    await backups.create("mounted", "source")
    await backups.reach("mounted")
    pod = training_pod("bare", node, image=f"{backups.registry}/{namespace}/train:mounted")
    await admin.create(f"/api/v1/namespaces/{namespace}/pods", pod)

    async def refused() -> bool:
        status = (await admin.get(f"/api/v1/namespaces/{namespace}/pods/bare"))["status"]
        states = [entry["state"] for entry in status.get("containerStatuses", ())]
        return any(state.get("waiting", {}).get("reason") == "CreateContainerError" for state in states)

    await eventually("CreateContainerError", refused)


async def test_without_a_registry_the_image_stays_on_its_node(
    admin: KubeClient, namespace: str, nodes: Nodes, backups: Backups
) -> None:
    node = await nodes.start()
    await start_training(admin, namespace, "source", node)
    await backups.create("local", "source", registry=None, containers=None)
    status = await backups.reach("local")
    assert status["phase"] == "Completed"
    [built] = status["builtImages"]
    assert re.fullmatch(r"localhost/checkpoint-source-trainer:\d{8}-\d{6}", built["imageName"])
    assert not built.get("pushed")


async def test_without_an_image_the_checkpoint_is_stored(
    admin: KubeClient, namespace: str, nodes: Nodes, backups: Backups
) -> None:
    node = await nodes.start()
    await start_training(admin, namespace, "source", node)
    await backups.create("file", "source", buildImage=False)
    status = await backups.reach("file")
    assert status["phase"] == "Completed"
    assert "builtImages" not in status
    [file] = status["checkpointFiles"]
    assert file["storagePath"] == f"{namespace}/{file['filePath']}"


async def test_one_checkpoint_at_a_time_on_a_node(
    admin: KubeClient, namespace: str, nodes: Nodes, backups: Backups, may_push: asyncio.Event
) -> None:
    node = await nodes.start(gpus=2)
    await start_training(admin, namespace, "a", node)
    await start_training(admin, namespace, "b", node)
    await backups.create("first", "a")
    await backups.reach("first", "ImagePushing")
    await backups.create("second", "b")
    await backups.stays_silent("second")
    may_push.set()
    assert (await backups.reach("second"))["phase"] == "Completed"
    assert (await backups.status("first"))["phase"] == "Completed"


async def test_a_checkpoint_that_was_done_is_not_done_again(
    admin: KubeClient, namespace: str, nodes: Nodes, backups: Backups
) -> None:
    node = await nodes.start()
    await start_training(admin, namespace, "source", node)
    await backups.create("once", "source")
    before = await backups.reach("once")
    await admin.patch(f"{backups.path}/once", {"metadata": {"labels": {"touched": "yes"}}})
    await asyncio.sleep(1)
    assert await backups.status("once") == before


@pytest.mark.parametrize("schedule", ["immediately", "*/5 * * * *"])
async def test_deletion_waits_for_the_finalizer(
    admin: KubeClient, namespace: str, nodes: Nodes, backups: Backups, schedule: str
) -> None:
    node = await nodes.start()
    await start_training(admin, namespace, "source", node)
    await backups.create("gone", "source", schedule=schedule)
    await backups.reach("gone")
    assert (await backups.get("gone"))["metadata"]["finalizers"] == [FINALIZER]
    await admin.delete(f"{backups.path}/gone")

    async def gone() -> bool:
        try:
            await backups.get("gone")
        except ApiError as error:
            return error.status == 404
        return False

    await eventually("CheckpointBackup gone", gone)


@pytest.mark.parametrize(("threshold", "phase"), [(1, "Failed"), (60, "Completed")])
async def test_a_liveness_probe_kills_what_is_being_dumped_unless_it_tolerates_that(
    admin: KubeClient, namespace: str, nodes: Nodes, backups: Backups, threshold: int, phase: str
) -> None:
    patience = {"periodSeconds": 1, "failureThreshold": threshold, "terminationGracePeriodSeconds": 1}
    probed: Json = {"livenessProbe": {"exec": {"command": ["true"]}, **patience}}
    await start_training(admin, namespace, "probed", await nodes.start(), container=probed)
    await backups.create("one", "probed")
    assert (await backups.reach("one"))["phase"] == phase

    async def state() -> Json | None:
        pod = await admin.get(f"/api/v1/namespaces/{namespace}/pods/probed")
        found: Json = pod["status"]["containerStatuses"][0]["state"]
        return found if phase == "Completed" or "terminated" in found else None

    found = await eventually("its end, if it comes to one", state)
    assert "running" in found if phase == "Completed" else found["terminated"]["exitCode"] == 137
