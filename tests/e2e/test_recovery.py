"""Recoveries that are not the plain one: a single replica, misleading exits, templates that fight, a killed worker."""

from __future__ import annotations

import asyncio

import pytest

from sandbox.demo.observe import holds
from sandbox.demo.sight import progress_of, tag_of
from tests.e2e.rig import Rig

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]


async def test_single_replica_goes_on_from_its_own_checkpoint(rig: Rig, namespace: str) -> None:
    job = await rig.start(namespace, rig.job(replicas=1, SANDBOX_STEPS=300))
    tag = await job.checkpointed()
    before = job.training(0)
    await job.preempt(0)
    await job.trains(0, but=(before,))
    assert tag_of(job.entry(0)["restoredFrom"]) == tag
    assert (job.training(0).first or 0) >= progress_of(tag) > 0
    await job.completed()


async def test_exit_0_on_sigterm_of_a_preempted_vm_is_no_success(rig: Rig, namespace: str) -> None:
    job = await rig.start(namespace, rig.job(replicas=1, SANDBOX_STEPS=300, SANDBOX_ON_SIGTERM="exit0"))
    await job.checkpointed()
    before = job.training(0)
    await job.preempt(0)
    await job.trains(0, but=(before,))
    assert any("SIGTERM" in line for line in before.lines)
    assert job.entry(0)["preemptions"] == 1
    await job.completed()
    assert job.training(0).done


async def test_template_that_would_start_again_by_itself_does_not(rig: Rig, namespace: str) -> None:
    manifest = rig.job(replicas=1, SANDBOX_STEPS=300)
    spec = manifest["spec"]["jobTemplate"]["spec"]
    spec |= {"backoffLimit": 6, "ttlSecondsAfterFinished": 0}
    spec["template"]["spec"]["restartPolicy"] = "OnFailure"
    job = await rig.start(namespace, manifest)
    await job.checkpointed()
    before = job.training(0)
    await job.preempt(0)
    await job.trains(0, but=(before,))
    await job.completed()
    # One pod an incarnation, none of which but the first began at step 0, and the success is not erased.
    trainings = job.trainings.of(job.id)
    assert [each.incarnation for each in trainings] == [0, 1]
    assert trainings[1].first
    await asyncio.sleep(3)
    left = [each["metadata"]["name"] for each in rig.observer.all("jobs.batch", namespace)]
    assert left == [trainings[1].job_name]
    assert holds(job.object, "Completed")
    assert not holds(job.object, "Recovering")


async def test_failures_of_the_training_itself_use_up_the_restarts(rig: Rig, namespace: str) -> None:
    manifest = rig.job(replicas=1, interval="1h", SANDBOX_STEPS=300, SANDBOX_FAIL_AT_STEP=20, SANDBOX_EXIT_CODE=3)
    manifest["spec"]["maxRestarts"] = 1
    job = await rig.start(namespace, manifest)
    await rig.until(lambda: holds(job.object, "Failed"), 60, "condition Failed")
    trainings = job.trainings.of(job.id)
    assert [each.incarnation for each in trainings] == [0, 1]
    nodes = {
        each.object["spec"]["nodeName"]
        for each in rig.observer.history
        if each.kind == "pods" and each.name in {training.pod for training in trainings}
        if "nodeName" in each.object["spec"]
    }
    assert len(nodes) == 1, "a replica that failed by itself starts again on the VM it has"


async def test_killed_worker_goes_on_with_the_recovery(rig: Rig, namespace: str) -> None:
    job = await rig.start(namespace, rig.job(SANDBOX_STEPS=3000))
    await job.checkpointed()
    before = job.training(0)
    await job.preempt(0)
    await rig.until(lambda: job.phase(0) != "Running", 10, "the recovery to begin")
    await rig.control.kill("worker")
    await asyncio.sleep(1)
    await rig.control.start("worker")
    await job.trains(0, seconds=120, but=(before,))
    assert job.training(0).first
    requested = [each for each in rig.observer.ledger if each["what"] == "requested" and job.id in each["name"]]
    assert len(requested) == 3, "two VMs, and one in place of the lost one"
