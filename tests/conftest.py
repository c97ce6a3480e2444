"""Fixtures for every test: the real parts that tests run against."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox import binaries
from sandbox.binaries import Binaries
from sandbox.control_plane import ControlPlane
from sandbox.registry import Registry
from sandbox.settings import Settings
from sandbox.temporal_server import TemporalServer
from tests import temporal_service
from tests.activities.unused import pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown  # noqa: F401
from tests.leftovers import pytest_unconfigure  # noqa: F401
from tests.scheduling import pytest_collection_modifyitems, pytest_xdist_make_scheduler  # noqa: F401
from tests.servers import up


def pytest_collection_finish() -> None:
    """Freeze what is loaded: modules and tests live as long as the process, so the garbage collector need not look at
    them.
    """
    gc.freeze()
    gc.set_threshold(50_000)


@pytest.fixture(scope="session", autouse=True)
def services_are_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let tests/leftovers.py find the Temporal services that tests start for themselves."""
    temporal_service.folder = tmp_path_factory.getbasetemp()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def executables() -> Binaries:
    """Return the sandbox's executables. `make test` builds them before pytest starts, because that may take minutes
    once.
    """
    return await binaries.ensure()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def control_plane(executables: Binaries, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ControlPlane]:
    """Start one real Kubernetes control plane without nodes, shared by all tests: each works in a namespace of its own.

    Its `kubeconfig` is the administrator's, `url` and `ca_file` are its address and CA, `kubectl` runs kubectl on it.
    """
    async with up(ControlPlane(Settings(state_dir=tmp_path_factory.mktemp("control-plane")), executables)) as plane:
        yield plane


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def temporal(executables: Binaries, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TemporalServer]:
    """Start one real Temporal service; its `address` is host:port."""
    async with up(TemporalServer(Settings(state_dir=tmp_path_factory.mktemp("temporal")), executables)) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def registry(executables: Binaries, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Registry]:
    """Start one real registry without authentication; its `address` is host:port.

    All tests share it, because an agent of the checkpoint operator keeps the first registry that any CheckpointBackup
    of the cluster names: one that another test left behind must not name another registry.
    """
    async with up(Registry(Settings(state_dir=tmp_path_factory.mktemp("registry")), executables)) as server:
        yield server
