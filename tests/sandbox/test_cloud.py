"""The sandbox as people run it: ``python -m sandbox``, here with only its quickest part."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from sandbox.cloud import Cloud
from sandbox.control import ControlClient, read_env
from sandbox.errors import SandboxError
from sandbox.processes import leftovers
from sandbox.settings import Settings
from sandbox.state import State


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", parts=("registry",))


@pytest_asyncio.fixture
async def cloud(settings: Settings) -> AsyncIterator[Cloud]:
    async with Cloud(settings) as cloud:
        yield cloud


async def sandbox(*arguments: str, state: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandbox", *arguments, "--state", str(state),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def up(settings: Settings) -> asyncio.subprocess.Process:
    process = await sandbox("up", "--parts", "registry", state=settings.state_dir)
    async with asyncio.timeout(120):
        while not settings.env_file.exists():
            assert process.returncode is None
            await asyncio.sleep(0.05)
    return process


async def test_ctrl_c_takes_everything_down(settings: Settings) -> None:
    process = await up(settings)
    assert len(leftovers(settings.state_dir)) == 1
    process.send_signal(signal.SIGINT)
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0
    assert b"registry is up after" in output
    assert leftovers(settings.state_dir) == []
    assert not settings.env_file.exists()


async def test_down_ends_one_that_runs_elsewhere(settings: Settings) -> None:
    process = await up(settings)
    down = await sandbox("down", state=settings.state_dir)
    await asyncio.wait_for(down.communicate(), 120)
    assert down.returncode == 0
    await asyncio.wait_for(process.wait(), 120)
    assert leftovers(settings.state_dir) == []


async def test_down_cleans_up_after_one_that_was_killed(settings: Settings) -> None:
    process = await up(settings)
    process.kill()
    await process.wait()
    assert len(leftovers(settings.state_dir)) == 1
    down = await sandbox("down", state=settings.state_dir)
    output, _ = await asyncio.wait_for(down.communicate(), 120)
    assert b"ended 1 processes of a crashed one" in output
    assert leftovers(settings.state_dir) == []


async def test_a_second_one_in_the_same_directory_is_refused(cloud: Cloud, settings: Settings) -> None:
    with pytest.raises(SandboxError, match=r"runs in .* already"):
        await Cloud(settings).up()
    assert cloud.registry
    assert cloud.registry.process.pid


async def test_a_directory_of_somebody_else_is_not_emptied(settings: Settings) -> None:
    settings.state_dir.mkdir()
    thesis = settings.state_dir / "thesis.tex"
    thesis.touch()
    with pytest.raises(SandboxError, match="not a sandbox's"):
        await Cloud(settings).up()
    assert thesis.exists()


async def test_starts_afresh_unless_told_to_keep(settings: Settings) -> None:
    state = State(settings.state_dir)
    await state.claim(keep=False)
    state.release()
    database = settings.state_dir / "temporal.db"
    database.touch()
    await state.claim(keep=True)
    state.release()
    assert database.exists()
    await state.claim(keep=False)
    state.release()
    assert not database.exists()


async def test_a_failed_start_takes_down_what_stood(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: object) -> None:
        raise SandboxError("no port is left")

    monkeypatch.setattr("sandbox.control_server.ControlServer.start", fail)
    with pytest.raises(SandboxError, match="no port is left"):
        await Cloud(settings).up()
    assert leftovers(settings.state_dir) == []
    assert State(settings.state_dir).running() is None


async def test_control_kills_and_starts_a_process(cloud: Cloud, settings: Settings) -> None:
    control = ControlClient.of(settings)
    await control.kill("registry")
    [killed] = (await control.status())["processes"]
    assert killed["exitCode"] == -9
    await control.start("registry")
    [started] = (await control.status())["processes"]
    assert started["pid"]


async def test_control_names_what_there_is(cloud: Cloud, settings: Settings) -> None:
    with pytest.raises(SandboxError, match="no process named worker; there are: registry"):
        await ControlClient.of(settings).kill("worker")


async def test_addresses_are_in_the_env_file(cloud: Cloud, settings: Settings) -> None:
    assert read_env(settings.env_file) == cloud.addresses
    assert settings.env_file.stat().st_mode & 0o077 == 0


async def test_status_shows_addresses_and_processes_in_columns(cloud: Cloud, settings: Settings) -> None:
    assert cloud.registry
    status = await sandbox("status", state=settings.state_dir)
    output, _ = await asyncio.wait_for(status.communicate(), 120)
    addresses, processes, vms = output.decode().strip().split("\n\n")
    assert ["REGISTRY", cloud.registry.address] in [line.split() for line in addresses.splitlines()]
    head, registry = processes.splitlines()
    assert head.split() == ["PROCESS", "STATE", "LOG"]
    assert registry.split()[:3] == ["registry", "pid", str(cloud.registry.process.pid)]
    assert registry.index("pid") == head.index("STATE")
    assert vms == "no VMs"


async def test_samples_come_edited_for_the_registry_that_runs(cloud: Cloud, settings: Settings) -> None:
    assert cloud.registry
    samples = await sandbox("samples", state=settings.state_dir)
    output, _ = await asyncio.wait_for(samples.communicate(), 120)
    documents = {document["kind"]: document for document in yaml.safe_load_all(output)}
    assert documents.keys() == {"SpotInstanceJob", "SpotInstanceVM", "Secret"}
    repository = documents["SpotInstanceJob"]["spec"]["checkpointConfig"]["checkpointImageRepo"]
    assert repository.startswith(f"{cloud.registry.address}/")


async def test_a_fault_of_a_part_that_does_not_run_is_refused(cloud: Cloud, settings: Settings) -> None:
    fault = await sandbox("fault", "exhaust", "us-central1-a", state=settings.state_dir)
    _, errors = await asyncio.wait_for(fault.communicate(), 120)
    assert (fault.returncode, errors) == (1, b"sandbox: this sandbox runs without gce\n")


async def test_status_of_none_says_how_to_start_one(settings: Settings) -> None:
    status = await sandbox("status", state=settings.state_dir)
    _, errors = await asyncio.wait_for(status.communicate(), 120)
    assert status.returncode == 1
    assert b"start one with `python -m sandbox up`" in errors


def test_real_machines_without_a_registry_are_refused() -> None:
    with pytest.raises(ValueError, match="real machines pull their images from the registry: ask for that part, too"):
        Settings(parts=("kubernetes", "gce"), machines="real")
