"""The main job on real machines: kubelets, kubeadm, and memory that survives the machine it was in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox.binaries import Binaries
from sandbox.machines.real.disk import Disks
from sandbox.machines.real.requirements import obstacle
from tests.e2e.alone.test_validator import holds_back_until_healed
from tests.e2e.rig import Rig, Running

STEPS = 400
LOSS = re.compile(r"step=(\d+)/\d+ loss=(\S+)")

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(1200)]
if reason := obstacle():
    pytestmark.append(pytest.mark.skip(reason=reason))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def undisturbed(real: Rig, executables: Binaries) -> Mapping[int, str]:
    """The loss after each step of a training that nothing happens to, in all its digits."""
    root = await Disks(executables.kubelet.parent, print).training()
    program = (Path(__file__).parents[2] / "sandbox/machines/real/train.py").read_bytes()
    process = await asyncio.create_subprocess_exec(
        "chroot", root, "/usr/bin/env", "SANDBOX_STEP_SECONDS=0", f"SANDBOX_STEPS={STEPS}", "OPENBLAS_NUM_THREADS=1",
        "python3", "-", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate(program)
    assert process.returncode == 0
    return losses(output.decode().splitlines())


def losses(lines: list[str]) -> dict[int, str]:
    """Step → loss, of a log."""
    return {int(found[1]): found[2] for line in lines if (found := LOSS.search(line))}


async def lose_and_see(job: Running, *replicas: int) -> None:
    """Take machines away, and wait until their replicas train elsewhere."""
    # Agents listen on every node, once their images are there.
    for agents in (("outlast-agent", "-n", "outlast-system"), ("checkpoint-agent", "-n", "kube-system")):
        await job.rig.kubectl("rollout", "status", "daemonset", *agents, "--timeout=120s", deadline=130)
    before = tuple(job.training(replica) for replica in replicas)
    await job.preempt(*replicas)
    await job.trains(*replicas, but=before, seconds=300)


def reasons(job: Running, pod: str) -> set[str]:
    """The reasons that a pod's status has ever given."""
    seen = [each.object["status"] for each in job.observer.history if (each.kind, each.name) == ("pods", pod)]
    return {status["reason"] for status in seen if "reason" in status}


async def test_memory_goes_on_bit_for_bit_through_two_losses(real: Rig, undisturbed: Mapping[int, str]) -> None:
    namespace = await real.namespace()
    job = await real.start(namespace, real.job(interval="8s", SANDBOX_STEPS=STEPS, SANDBOX_STEP_SECONDS=0.25))
    await job.checkpointed()
    lost = job.training(0)
    await lose_and_see(job, 0)  # the survivor is dumped
    assert "Terminated" in reasons(job, lost.pod), "its kubelet has ended it, for the machine shut down"
    first = job.training(0)
    assert first.first, "replica 0 began anew"
    assert "training from step 0" not in "\n".join(first.lines)
    await job.checkpointed()
    await lose_and_see(job, 0, 1)  # from an image, of a process that was restored itself
    assert job.training(0).first
    assert job.training(1).first
    await job.completed(300)
    trainings = real.trainings.of(job.id)
    assert len(trainings) >= 5
    for training in trainings:
        found = losses(training.lines)
        assert found
        assert found == {step: undisturbed[step] for step in found}
    assert STEPS in {step for training in trainings for step in losses(training.lines)}
    identities = {line for line in first.lines if line.startswith("identity ")}
    assert any("replica=0" in line and f"incarnation={first.incarnation}" in line for line in identities)
    await real.kubectl("delete", "namespace", namespace, deadline=180)
    await job.nothing_left()


async def test_node_with_a_failing_validator_takes_no_replica_until_it_is_well(real: Rig) -> None:
    namespace = await real.namespace()
    job = await holds_back_until_healed(real, namespace)
    await real.kubectl("delete", "namespace", namespace, deadline=180)
    await job.nothing_left()
