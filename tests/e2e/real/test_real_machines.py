"""The main job on real machines: kubelets, kubeadm, and memory that survives the machine it was in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import pytest_asyncio

from sandbox.binaries import Binaries
from sandbox.checkpoint_operator.traps import CRI_O
from sandbox.demo.observer import holds
from sandbox.machines.real.requirements import obstacle
from tests.e2e.alone.test_validator import holds_back_until_healed
from tests.e2e.real.training import losses, undisturbed_losses
from tests.e2e.rig import Rig, Running
from tests.e2e.test_saves_itself import application, output

STEPS = 400

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(1200)]
if reason := obstacle():
    pytestmark.append(pytest.mark.skip(reason=reason))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def undisturbed(real: Rig, executables: Binaries) -> Mapping[int, str]:
    return await undisturbed_losses(executables, STEPS)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def delete(real: Rig) -> AsyncIterator[Callable[[Running], None]]:
    """Delete a job's namespace beside the next test; the end waits until nothing is left of any."""
    deletions: list[asyncio.Task[None]] = []

    async def see_it_go(job: Running) -> None:
        await real.kubectl("delete", "namespace", job.namespace, deadline=180)
        await job.nothing_left()

    yield lambda job: deletions.append(asyncio.create_task(see_it_go(job)))
    await asyncio.gather(*deletions)


async def lose_and_see(job: Running, *replicas: int) -> None:
    """Preempt machines, and wait until their replicas train elsewhere."""
    listening = lambda: all(has_agents(job, each) for each in range(len(job.replicas)))  # noqa: E731
    await job.until(listening, 120, "agents to listen on the job's nodes")
    # A process that gets a SIGTERM while it is dumped ends as soon as it is restored.
    await job.until(lambda: not job.is_dumped, 60, "no checkpoint to be under way")
    before = tuple(job.training(replica) for replica in replicas)
    await job.preempt(*replicas)
    await job.trains(*replicas, but=before, seconds=300)


def has_agents(job: Running, replica: int) -> bool:
    """True if both agents listen on the replica's node, ours and the checkpoint operator's."""
    pods = [pod for pod in job.observer.all("pods") if pod["spec"].get("nodeName") == job.vm(replica)]
    ready = {pod["metadata"].get("generateName") for pod in pods if holds(pod, "Ready")}
    return {"outlast-agent-", "checkpoint-agent-"} <= ready


async def hurry(job: Running, replica: int) -> None:
    """Let its remaining steps take less time than the test needed before."""
    pod = job.training(replica).pod
    await job.rig.kubectl("exec", "--namespace", job.namespace, pod, "--", "touch", "/hurry")


def reasons(job: Running, pod: str) -> set[str]:
    """List the reasons that a pod's status has ever given."""
    seen = [each.object["status"] for each in job.observer.history if (each.kind, each.name) == ("pods", pod)]
    return {status["reason"] for status in seen if "reason" in status}


async def test_memory_goes_on_bit_for_bit_through_two_losses(
    real: Rig, undisturbed: Mapping[int, str], delete: Callable[[Running], None]
) -> None:
    namespace = await real.namespace()
    # Images as the public operator makes them, for machines that run containerd.
    await real.control.trap(CRI_O, count=50, namespace=namespace)
    job = await real.start(namespace, real.job(interval="8s", SANDBOX_STEPS=STEPS, SANDBOX_STEP_SECONDS=0.5))
    first_tag = await job.checkpointed()
    await job.checkpointed(but=first_tag)  # the first one may have caught its training before the first step
    lost = job.training(0)
    await lose_and_see(job, 0, 1)  # from an image that the registry has
    assert "Terminated" in reasons(job, lost.pod), "its kubelet has ended it, for the machine shut down"
    assert job.training(1).first, "replica 1 began anew"
    await lose_and_see(job, 0)  # the survivor, whose process was restored itself, is dumped
    first = job.training(0)
    assert first.first, "replica 0 began anew"
    assert "training from step 0" not in "\n".join(first.lines)
    await hurry(job, 0)
    await job.completed(120)
    trainings = real.trainings.of(job.id)
    assert len(trainings) >= 5
    for training in trainings:
        found = losses(training.lines)
        assert found
        assert found == {step: undisturbed[step] for step in found}
    assert STEPS in {step for training in trainings for step in losses(training.lines)}
    identities = {line for line in first.lines if line.startswith("identity ")}
    assert any("replica=0" in line and f"incarnation={first.incarnation}" in line for line in identities)
    delete(job)


async def test_training_that_saves_itself_waits_for_sound_gpus_and_loses_no_step_with_its_machine(
    real: Rig, undisturbed: Mapping[int, str], delete: Callable[[Running], None]
) -> None:
    namespace = await real.namespace()
    manifest = application(
        real, SANDBOX_STEPS=STEPS, SANDBOX_STEP_SECONDS=0.1, SANDBOX_SAVE_EVERY=50, SANDBOX_OUTPUT="/out/model.txt"
    )
    manifest["spec"]["outputs"] = ["/out"]
    job = await holds_back_until_healed(real, namespace, manifest)
    before = job.training(0)
    await job.until(lambda: (before.last or 0) >= 60, 60, "a checkpoint of its own, and some steps more")
    await lose_and_see(job, 0)
    after = job.training(0)
    assert before.lines[-1] == f"SIGTERM at step {after.first}", "it has saved itself on the notice"
    assert job.entry(0)["restoredFrom"].startswith(f"e2e/{job.id}/checkpoints/r0-i{before.incarnation}/")
    pod = real.observer.get("pods", after.pod, namespace)
    assert pod
    assert pod["spec"]["containers"][0]["image"] == real.addresses["TRAINING_IMAGE"]
    await hurry(job, 0)
    await job.completed(120)
    assert losses(before.lines) | losses(after.lines) == undisturbed
    assert not losses(before.lines).keys() & losses(after.lines).keys(), "no step was made twice"
    assert not real.observer.all("checkpointbackups", namespace), "nobody dumps it"
    await job.until(lambda: holds(job.object, "OutputsSaved"), 60, "its outputs, by SSH from the ended container")
    assert await output(real, job) == f"model after {STEPS} steps\n"
    delete(job)
