"""A gang on real kubelets: a training in NumPy over TCP, whose members find each other by the cluster's DNS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime

import pytest
import pytest_asyncio
import yaml

from sandbox.binaries import Binaries
from sandbox.demo.observer import Json
from sandbox.demo.trainings import Training
from sandbox.machines.real.disk import Disks
from sandbox.machines.real.requirements import obstacle
from tests.e2e.gangs import Members, complete, saves
from tests.e2e.real.training import losses
from tests.e2e.rig import REPOSITORY, Rig, Running
from tests.e2e.test_saves_itself import application

STEPS = 800
SAVE_EVERY = 20
HANG_SECONDS = 90.0
ZONE = "us-central1-a"
DISTRIBUTED = REPOSITORY / "deploy/samples/distributed"
HELPER = REPOSITORY / "deploy/training/outlast_checkpoint.py"
# The sample's steps take milliseconds. Here each takes its time, until there is a file /hurry.
SLOWLY = """
import runpy, time
from pathlib import Path
import outlast_checkpoint as outlast

agreed = outlast.agreed

def slowly(flag):
    time.sleep(0 if Path("/hurry").exists() else 0.4)
    return agreed(flag)

outlast.agreed = slowly
runpy.run_path("/code/allreduce.py", run_name="__main__")
"""

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(2400)]
if reason := obstacle():
    pytestmark.append(pytest.mark.skip(reason=reason))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def undisturbed(executables: Binaries) -> Mapping[int, str]:
    """Compute the losses of the sample on one machine on which nothing happens."""
    root = await Disks(executables.kubelet.parent, print).training()
    program = (
        "import sys, types\n"
        "helper = sys.modules['outlast_checkpoint'] = types.ModuleType('outlast_checkpoint')\n"
        f"exec({HELPER.read_text()!r}, helper.__dict__)\n"
        f"exec({(DISTRIBUTED / 'allreduce.py').read_text()!r})\n"
    )
    process = await asyncio.create_subprocess_exec(
        "chroot", root, "/usr/bin/env", f"STEPS={STEPS}", f"SAVE_EVERY={STEPS + 1}", "STATE=/tmp",
        "OPENBLAS_NUM_THREADS=1", "python3", "-", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate(program.encode())
    assert process.returncode == 0
    return losses(output.decode().splitlines())


def sample(rig: Rig) -> list[Json]:
    """Read the sample, and edit it as a user does."""
    job = next(iter(yaml.safe_load_all((DISTRIBUTED / "numpy.yaml").read_text())))
    spec, container = job["spec"], job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    del spec["gcpCredentialsSecretRef"]
    spec["spotInstanceVMRef"]["name"] = "t4"
    spec["checkpointConfig"]["checkpointStorage"] = application(rig)["spec"]["checkpointConfig"]["checkpointStorage"]
    container["image"] = rig.addresses["TRAINING_IMAGE"]
    container["command"] = ["python3", "-u", "/code/slowly.py"]
    container["env"] = [{"name": "STEPS", "value": str(STEPS)}, {"name": "SAVE_EVERY", "value": str(SAVE_EVERY)}]
    files = {"allreduce.py": (DISTRIBUTED / "allreduce.py").read_text(), "slowly.py": SLOWLY}
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "allreduce"}, "data": files}
    return [job, code]


async def test_a_gang_loses_machines_with_and_without_notice_and_learns_the_same(
    real: Rig, undisturbed: Mapping[int, str]
) -> None:
    namespace = await real.namespace()
    job = await real.start(namespace, *sample(real))
    members = Members(job)
    three = await members.train(0, 3)
    machines = members.machines(0)

    # With a notice: all save themselves at one step. There is no other machine, so two of them train on.
    await real.control.fault("exhaust", zone=ZONE)
    await real.control.preempt(machines[1], 30)
    two = await members.train(1, 2)
    continue_where_all_ended(two, three)
    assert set(members.machines(1).values()) == {machines[0], machines[2]}
    await real.control.fault("restore_capacity", zone=ZONE)
    again = await members.train(2, 3)
    continue_where_all_ended(again, two)
    assert {machines[0], machines[2]} < set(members.machines(2).values())

    # Without a word, while the cloud says RUNNING: the others hang, and ignore SIGTERM.
    await job.until(lambda: min(map(made, again)) > SAVE_EVERY, 60, "a save")
    lost = members.machines(2)[0]
    heartbeat = await last_heartbeat(real, lost)
    await real.control.silence(lost)
    ended = await job.until(lambda: told_to_end(job, 2), 120, "the end of the members that hang")
    print(f"the hang was ended {ended - heartbeat:.1f} s after the last heartbeat of {lost}")
    assert ended - heartbeat <= HANG_SECONDS
    whole = await trains_whole(members, 3)
    first = min(each.first or 0 for each in members.logs(3))
    assert first == complete(await saves(real, job, 2), 3)[-1]
    assert lost not in members.machines(3).values()

    for each in whole:
        await real.kubectl("exec", "--namespace", namespace, each.pod, "--", "touch", "/hurry")
    await job.completed()
    trainings = real.trainings.of(job.id)
    assert all(each.done for each in whole)
    entry = job.entry(0)
    assert (entry["preemptions"], entry["restarts"]) == (2, 0)
    for training in trainings:
        found = losses(training.lines)
        assert found == {step: undisturbed[step] for step in found}, "the same in every digit, whatever the size"
    assert {step for each in trainings for step in losses(each.lines)} == set(undisturbed)
    await real.kubectl("delete", "namespace", namespace, deadline=180)
    await job.nothing_left()


def continue_where_all_ended(after: list[Training], before: list[Training]) -> None:
    """Check that no step was lost, and none made twice."""
    # A machine that goes may take the last lines of its log along, and the others have them all.
    assert {each.first for each in after} == {max(each.last or 0 for each in before)}


def made(training: Training) -> int:
    """Count the steps of one incarnation."""
    return (training.last or 0) - (training.first or 0)


async def last_heartbeat(rig: Rig, node: str) -> float:
    """Return when a kubelet has renewed its Lease (Unix time)."""
    lease = json.loads(await rig.kubectl("get", "lease", node, "--namespace", "kube-node-lease", "-o", "json"))
    return datetime.fromisoformat(lease["spec"]["renewTime"]).timestamp()


def told_to_end(job: Running, incarnation: int) -> float | None:
    """Return when the pods of an incarnation were told to end; None before that."""
    for change in job.observer.history:
        metadata = change.object["metadata"]
        whose = (metadata.get("labels") or {}).get("training.dcnlab.com/incarnation")
        mine = change.kind == "pods" and metadata["namespace"] == job.namespace and whose == str(incarnation)
        if mine and "deletionTimestamp" in metadata:
            return change.at
    return None


async def trains_whole(members: Members, incarnation: int) -> list[Training]:
    """Wait until three train, in this incarnation or, if it is smaller, in a later one; return the logs of those."""
    newest: list[Training] = []

    def whole() -> bool:
        found = members.job.trainings.newest(members.job.id, 0)
        newest[:] = members.logs(found.incarnation) if found and found.incarnation >= incarnation else []
        return len(newest) == 3 and all(map(made, newest)) and members.job.phase(0) == "Running"

    await members.job.until(whole, 240, "three members to train again")
    return list(newest)
