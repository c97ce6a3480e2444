"""Recoveries that are not the plain one: a single replica, misleading exits and templates that interfere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from sandbox.demo.observer import Json, holds
from sandbox.demo.sight import progress_of
from sandbox.demo.trainings import Training
from tests.e2e.rig import Rig, Running

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]


@dataclass
class Lost:
    """A single replica that has lost its VM after its first checkpoint and has then trained to the end."""

    job: Running
    tag: str
    """The tag of that checkpoint's image."""
    before: Training
    after: Training
    entry: Json
    """The replica's status once it trained again."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lost(rig: Rig) -> AsyncIterator[dict[str, Lost]]:
    """Run three such jobs side by side: a plain one, one that exits with 0 on SIGTERM, and one whose template
    interferes.
    """
    own_will = rig.job("own-will", replicas=1, interval="5s")
    spec = own_will["spec"]["jobTemplate"]["spec"]
    spec |= {"backoffLimit": 6, "ttlSecondsAfterFinished": 0}
    spec["template"]["spec"]["restartPolicy"] = "OnFailure"
    manifests = [
        rig.job("plain", replicas=1, interval="5s"),
        rig.job("polite", replicas=1, interval="5s", SANDBOX_ON_SIGTERM="exit0"),
        own_will,
    ]
    namespace = await rig.namespace()
    found = await asyncio.gather(*(_lose(rig, namespace, manifest) for manifest in manifests))
    yield {each.job.name: each for each in found}
    await rig.kubectl("delete", "namespace", namespace, "--wait=false")


async def _lose(rig: Rig, namespace: str, manifest: Json) -> Lost:
    job = await rig.start(namespace, manifest)
    tag = await job.checkpointed()
    before = job.training(0)
    await job.preempt(0)
    await job.trains(0, but=(before,))
    after, entry = job.training(0), job.entry(0)
    await job.completed()
    return Lost(job, tag, before, after, entry)


async def test_single_replica_goes_on_from_its_own_checkpoint(lost: dict[str, Lost]) -> None:
    plain = lost["plain"]
    assert progress_of(plain.entry["restoredFrom"]) >= progress_of(plain.tag) > 0
    assert (plain.after.first or 0) >= progress_of(plain.tag)
    assert plain.after.done


async def test_exit_0_on_sigterm_of_a_preempted_vm_is_no_success(lost: dict[str, Lost]) -> None:
    polite = lost["polite"]
    assert any("SIGTERM" in line for line in polite.before.lines)
    assert not polite.before.done
    assert polite.entry["preemptions"] == 1
    assert polite.after.done


async def test_template_that_would_start_again_by_itself_does_not(rig: Rig, lost: dict[str, Lost]) -> None:
    job = lost["own-will"].job
    trainings = job.trainings.of(job.id)
    assert [each.incarnation for each in trainings] == [0, 1], "one pod an incarnation"
    assert trainings[1].first, "not from step 0"
    left = [each["metadata"]["name"] for each in rig.observer.all("jobs.batch", job.namespace, job=job.id)]
    assert left == [trainings[1].job_name], "the success is not erased"
    assert holds(job.object, "Completed")
    assert not holds(job.object, "Recovering")


async def test_failures_of_the_training_itself_use_up_the_restarts(rig: Rig, namespace: str) -> None:
    manifest = rig.job(replicas=1, interval="1h", SANDBOX_STEPS=300, SANDBOX_FAIL_AT_STEP=20, SANDBOX_EXIT_CODE=3)
    manifest["spec"]["maxRestarts"] = 1
    job = await rig.start(namespace, manifest)
    await rig.until(lambda: holds(job.object, "Failed"), 60, "condition Failed")
    trainings = await rig.until(lambda: (found := job.trainings.of(job.id))[1:] and found, 30, "the second training")
    assert [each.incarnation for each in trainings] == [0, 1]
    nodes = {
        each.object["spec"]["nodeName"]
        for each in rig.observer.history
        if each.kind == "pods" and each.name in {training.pod for training in trainings}
        if "nodeName" in each.object["spec"]
    }
    assert len(nodes) == 1, "a replica that failed by itself starts again on the VM it has"
