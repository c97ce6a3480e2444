"""In which order tests run, and in which of several processes: what waits long begins first, beside what computes."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

#: Whole clouds take minutes and wait most of the time; each of these two is for one process alone.
CLOUDS = ("tests/e2e/real", "tests/e2e/alone")
EARLY = (*CLOUDS, "tests/e2e", "tests/bridge", "tests/activities", "tests/sandbox", "tests/chaos")


class ByCloud(LoadScopeScheduling):
    """Gives files to processes as a whole, and all that need a cloud of their own to one process."""

    def _split_scope(self, nodeid: str) -> str:
        folder = _folder(nodeid)
        return folder if folder in CLOUDS else _file(nodeid)


@pytest.hookimpl(optionalhook=True)  # also where xdist is switched off
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByCloud:
    """What ``--dist loadgroup`` of this xdist would do, were it not that this pytest ignores its names."""
    config.option.loadscopereorder = False
    return ByCloud(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """By folder, as they are listed; within a folder as they stand."""
    items.sort(key=lambda item: _rank(_folder(item.nodeid)))


def _rank(folder: str) -> int:
    return EARLY.index(folder) if folder in EARLY else len(EARLY)


def _folder(nodeid: str) -> str:
    return str(PurePosixPath(_file(nodeid)).parent)


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
