"""A job's beginning and end: names used again, restarts, deletions of everything in any order."""

from __future__ import annotations

import pytest

from tests.e2e.rig import CREDENTIALS, Rig, machine

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]


async def test_job_of_the_same_name_in_the_same_repository_starts_anew(rig: Rig, namespace: str) -> None:
    first = await rig.start(namespace, rig.job("again", replicas=1, interval="10s"))
    first_id, tag = first.id, await first.checkpointed()
    await rig.delete(namespace, rig.job("again"))
    await first.nothing_left(but=("spotinstancevms",))
    second = await rig.start(namespace, rig.job("again", replicas=1, interval="1h"))
    assert tag.startswith(first_id)
    assert second.id != first_id
    assert second.training(0).first == 0
    before = second.training(0)
    await second.preempt(0)
    await second.trains(0, but=(before,))
    assert second.training(0).first == 0, "not from the other's image either, with none of its own"


async def test_one_delete_of_all_manifests_leaves_nothing(rig: Rig, namespace: str) -> None:
    manifest = rig.job()
    job = await rig.start(namespace, manifest)
    # Secret and SpotInstanceVM first, as in a file whose order nobody has thought about.
    await rig.delete(namespace, CREDENTIALS, machine(), manifest)
    await job.nothing_left()
    secrets = await rig.kubectl("get", "secrets", "--namespace", namespace, "-o", "name")
    assert "registry-credentials" not in secrets


async def test_namespace_deleted_in_the_middle_of_a_recovery_leaves_no_vm(rig: Rig, namespace: str) -> None:
    job = await rig.start(namespace, rig.job(interval="10s"))
    await job.checkpointed()
    await job.preempt(0)
    await rig.until(lambda: job.phase(0) not in ("Running", ""), 60, "the recovery to begin")
    await rig.kubectl("delete", "namespace", namespace, "--wait=false")
    await job.nothing_left()
    await rig.kubectl("wait", "--for=delete", f"namespace/{namespace}", "--timeout=360s", deadline=370)


async def test_suspended_job_lets_go_of_its_vms_and_goes_on_when_resumed(rig: Rig, namespace: str) -> None:
    job = await rig.start(namespace, rig.job(replicas=1, interval="1h"))
    before = job.training(0)
    await rig.kubectl("patch", "sij", job.name, "-n", namespace, "--type=merge", "-p", '{"spec":{"suspend":true}}')
    await rig.until(lambda: not [vm for vm in rig.observer.vms if job.id in vm["name"]], 120, "its VM to be gone")
    await rig.kubectl("patch", "sij", job.name, "-n", namespace, "--type=merge", "-p", '{"spec":{"suspend":false}}')
    await job.trains(0, but=(before,))
    assert (job.training(0).first or 0) > 0


async def test_strangers_pod_does_not_get_the_bought_node(rig: Rig, namespace: str) -> None:
    stranger = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger"},
        "spec": {
            "containers": [
                {"name": "gpu", "image": "example.com/gpu:1", "resources": {"limits": {"nvidia.com/gpu": 1}}}
            ]
        },
    }
    await rig.apply(namespace, stranger)
    job = await rig.start(namespace, rig.job(replicas=1, interval="1h"))
    await job.completed()
    assert job.trainings.of(job.id)[0].incarnation == 0
    seen = [each.object for each in rig.observer.history if each.kind == "pods" and each.name == "stranger"]
    assert not [pod for pod in seen if pod["spec"].get("nodeName")]
