"""Temporal's server for production on PostgreSQL, which benchmarks use if both are there."""

from pathlib import Path

import pytest
from temporalio.client import Client

from sandbox.binaries import TOOLS, Binaries, _place
from sandbox.errors import SandboxError
from sandbox.settings import Settings
from sandbox.temporal_postgres import TemporalOnPostgres, postgres_programs


def test_a_machine_without_postgresql_is_told_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="apt install postgresql"):
        postgres_programs({"PATH": str(tmp_path)}, tmp_path)


def test_the_newest_version_is_taken(tmp_path: Path) -> None:
    for version in ("15", "17"):
        directory = tmp_path / version / "bin"
        directory.mkdir(parents=True)
        (directory / "initdb").touch()
    assert postgres_programs({"PATH": ""}, tmp_path).initdb == tmp_path / "17" / "bin" / "initdb"


async def test_it_serves_the_namespace_and_leaves_nothing(executables: Binaries, tmp_path: Path) -> None:
    if not all(_place(tool).exists() for tool in TOOLS if tool.part == "temporal-service"):
        pytest.skip("not built: make service")
    try:
        service = TemporalOnPostgres(Settings(state_dir=tmp_path), executables)
    except SandboxError as error:
        pytest.skip(str(error))
    try:
        await service.up()
        client = await Client.connect(service.address)
        assert (await client.count_workflows()).count == 0
    finally:
        await service.down()
    assert [process.pid for process in service.processes] == [None, None]
    assert service.data is None or not service.data.exists()
