"""Real machines: what a VM in namespaces is, and that nothing of it survives the sandbox or its crash."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from sandbox.binaries import Binaries
from sandbox.control import read_env
from sandbox.machines.real import cgroups, requirements
from sandbox.machines.real.requirements import obstacle
from sandbox.processes import leftovers
from sandbox.settings import Settings
from tests import vms
from tests.sandbox.light_nodes import eventually

SCRIPT = """#!/bin/sh
echo "I am $(hostname) with uid $(id -u) and $(ls /proc | grep -c '^[0-9]') processes"
echo "metadata says $(curl -s -H Metadata-Flavor:Google http://169.254.169.254/computeMetadata/v1/instance/name)"
echo "eth0 $(ip -4 -brief address show eth0 | awk '{ print $3 }') $(ip -brief link show eth0 | awk '{ print $3 }')"
echo "containerd has $(ctr -n k8s.io snapshots ls | grep -c Committed) layers"
"""

real = pytest.mark.skipif(obstacle() is not None, reason=obstacle() or "")


class Running:
    """Runs a sandbox with real machines in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, settings: Settings) -> None:
        self.process = process
        self.settings = settings
        self.gce = read_env(settings.env_file)["GCE_ENDPOINT"]

    async def buy(self, name: str) -> None:
        """Insert a spot VM that runs SCRIPT at its boot."""
        await vms.insert(self.gce, name, {"startup-script": SCRIPT, "enable-guest-attributes": "TRUE"})

    async def host_keys(self, name: str) -> str:
        """Return the SSH host keys in its guest attributes; empty before they are published."""
        path = f"{vms.INSTANCES}/{name}/getGuestAttributes?queryPath=hostkeys/"
        async with aiohttp.ClientSession(self.gce) as session, session.get(path) as answer:
            return await answer.text() if answer.status == 200 else ""

    async def said(self, name: str, words: str) -> str:
        """Return its serial output once that contains these words."""
        log = self.settings.state_dir / "vms" / name / "serial.log"

        async def has() -> str | None:
            text = log.read_text() if log.exists() else ""
            return text if words in text else None

        return await eventually(f"{name} says {words!r}", has, 120)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sandbox(executables: Binaries, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """Start one sandbox for all tests here; the last test that uses it kills it."""
    settings = Settings(state_dir=tmp_path_factory.mktemp("real") / "state")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandbox", "--state", str(settings.state_dir), "up", "--machines", "real",
        "--parts", "kubernetes", "registry", "gce", "--speed", "20", stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip

    async def is_up() -> bool:
        assert process.returncode is None
        return settings.env_file.exists()

    await eventually("the sandbox is up", is_up, 120)
    yield Running(process, settings)
    if process.returncode is None:
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 120) == 0


def traces(settings: Settings) -> list[str]:
    """Return what a sandbox has left on this machine."""
    group = cgroups.parent(settings.state_dir)
    found = [f"process {pid}" for pid in leftovers(settings.state_dir)]
    found += [f"cgroup {group}"] if cgroups.exists(group) else []
    return found + [
        f"mount {line}" for line in Path("/proc/mounts").read_text().splitlines() if str(settings.state_dir) in line
    ]


@real
@pytest.mark.asyncio(loop_scope="session")
async def test_a_vm_is_a_machine_of_its_own_and_gone_when_it_is_deleted(sandbox: Running) -> None:
    links = sorted(os.listdir("/sys/class/net"))
    await sandbox.buy("vm-1")
    text = await sandbox.said("vm-1", "startup-script exit status 0")
    assert "I am vm-1 with uid 0 and" in text
    assert "metadata says vm-1" in text
    found = re.search(r"eth0 10\.128\.(\d+)\.(\d+)/24 (\S+)", text)
    assert found, text
    zone, host, mac = found.groups()
    assert mac == f"42:01:0a:80:{int(zone):02x}:{int(host):02x}", "the next machine with this address has it, too"
    assert "containerd has 2 layers" in text

    async def published() -> bool:
        return "ssh-ed25519" in await sandbox.host_keys("vm-1")

    await eventually("host keys", published)
    assert sorted(os.listdir("/sys/class/net")) == links
    await vms.delete(sandbox.gce, "vm-1")
    group = f"{cgroups.parent(sandbox.settings.state_dir)}/vm-1"

    async def gone() -> bool:
        return not cgroups.exists(group)

    await eventually("no cgroup of vm-1", gone)


@real
@pytest.mark.asyncio(loop_scope="session")
async def test_a_crash_leaves_what_down_removes(sandbox: Running) -> None:
    await sandbox.buy("vm-2")
    await sandbox.said("vm-2", "Started OpenBSD")
    sandbox.process.kill()
    await sandbox.process.wait()
    assert traces(sandbox.settings)
    down = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandbox", "--state", str(sandbox.settings.state_dir), "down",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await down.communicate()
    assert b"of a crashed one" in output
    assert traces(sandbox.settings) == []


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 1000)
    assert "need root" in (obstacle() or "")


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 0)
    monkeypatch.setattr(requirements.shutil, "which", lambda program: None if program == "nsenter" else program)
    assert "nsenter: on Debian and Ubuntu apt install util-linux" in (obstacle() or "")
