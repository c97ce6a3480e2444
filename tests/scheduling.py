"""The order of tests, and the process for each: what waits long begins first, beside what computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Folders whose tests share a costly cloud or control plane: each line is for one process.
TOGETHER = (
    ("tests/e2e/real",),
    ("tests/activities", "tests/sandbox/cluster"),
    ("tests/e2e/alone",),
    ("tests/bridge",),
)
# In this order; what comes after them computes and never waits.
EARLY = (
    *(folder for folders in TOGETHER for folder in folders),
    "tests/workflows/real_time",
    "tests/e2e",
    "tests/sandbox",
    "tests/chaos",
)
#: The longest of a folder come first. Each is a single test, and with such a file xdist hands out the next one, too:
#: what follows each of them here is short.
LONGEST = (
    "tests/e2e/test_lost_layer.py",
    "tests/e2e/test_daily.py",
    "tests/e2e/test_lying_checkpoints.py",
    "tests/e2e/test_origin.py",
)


class ByCloud(LoadScopeScheduling):
    """Gives whole files to processes, and all files that share a cloud or a control plane to one process."""

    def _split_scope(self, nodeid: str) -> str:
        folder = _folder(nodeid)
        return next((folders[0] for folders in TOGETHER if folder in folders), _file(nodeid))


@pytest.hookimpl(optionalhook=True)  # also if xdist is switched off
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByCloud:
    """Do what ``--dist loadgroup`` of this xdist would do, if this pytest did not ignore its names."""
    config.option.loadscopereorder = False
    return ByCloud(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by folder, as they are listed; within a folder the longest first, then in the order of the file."""
    items.sort(key=lambda item: (_rank(_folder(item.nodeid), EARLY), _rank(_file(item.nodeid), LONGEST)))


def _rank(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _folder(nodeid: str) -> str:
    return str(PurePosixPath(_file(nodeid)).parent)


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
