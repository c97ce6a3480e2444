"""Fixtures for every test: the real parts that tests run against."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox import binaries
from sandbox.binaries import Binaries
from sandbox.control_plane import ControlPlane
from sandbox.registry import Registry
from sandbox.settings import Settings
from sandbox.temporal_server import TemporalServer
from tests.activities.unused import pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown  # noqa: F401
from tests.scheduling import pytest_collection_modifyitems, pytest_xdist_make_scheduler  # noqa: F401


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def executables() -> Binaries:
    """The sandbox's executables; `make test` builds them before pytest starts, for this may take minutes once."""
    return await binaries.ensure()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def control_plane(executables: Binaries, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ControlPlane]:
    """One real Kubernetes control plane without nodes, shared by all tests: each works in a namespace of its own.

    Its `kubeconfig` is the administrator's, `url` and `ca_file` say where it is, `kubectl` runs kubectl on it.
    """
    plane = ControlPlane(Settings(state_dir=tmp_path_factory.mktemp("control-plane")), executables)
    try:
        await plane.up()
        yield plane
    finally:
        await plane.down()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def temporal(executables: Binaries, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TemporalServer]:
    """One real Temporal service; its `address` is host:port."""
    server = TemporalServer(Settings(state_dir=tmp_path_factory.mktemp("temporal")), executables)
    try:
        await server.up()
        yield server
    finally:
        await server.down()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def registry(executables: Binaries, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Registry]:
    """One real registry without authentication; its `address` is host:port.

    One for all, because an agent of the checkpoint operator keeps the first that any CheckpointBackup of the cluster
    names: one that another test left behind must not name another registry.
    """
    server = Registry(Settings(state_dir=tmp_path_factory.mktemp("registry")), executables)
    await server.up()
    yield server
    await server.down()
