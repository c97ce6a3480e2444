"""The order of tests, and the process for each: what waits long begins first, beside what computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Folders whose tests share a costly cloud or control plane, and files of such folders: each line is for one process. A
# file that is named is in no other line.
TOGETHER = (
    ("tests/e2e/real",),
    ("tests/activities",),
    ("tests/activities/test_names_are_data.py", "tests/sandbox/cluster"),
    ("tests/bridge",),
    (
        "tests/bridge/test_deploy.py",
        "tests/bridge/test_crds.py",
        "tests/bridge/test_network_policy.py",
        "tests/bridge/test_csr_policy.py",
        "tests/bridge/test_worker_policy.py",
        "tests/bridge/test_worker_nodes_policy.py",
        "tests/bridge/test_worker_customs_policy.py",
        "tests/bridge/test_bridge_policy.py",
        "tests/bridge/test_rights.py",
    ),
    ("tests/e2e/alone",),
    ("tests/install",),
)
# In this order; what comes after them computes and never waits.
EARLY = (
    *(place for places in TOGETHER for place in places),
    "tests/workflows/real_time",
    "tests/e2e",
    "tests/sandbox",
    "tests/chaos",
)
#: The longest of the files that are handed out one by one come first.
LONGEST = (
    "tests/workflows/real_time/test_rehearsal_dev_server.py",
    "tests/e2e/test_tutorials.py",
    "tests/e2e/test_lost_layer.py",
    "tests/workflows/real_time/test_cli_dev_server.py",
    "tests/e2e/test_life.py",
    "tests/e2e/test_lying_checkpoints.py",
    "tests/e2e/test_joining.py",
    "tests/workflows/real_time/test_messages_dev_server.py",
    "tests/e2e/test_saves_itself.py",
    "tests/e2e/test_bad_input.py",
    "tests/e2e/test_edits.py",
    "tests/e2e/test_origin.py",
    "tests/e2e/test_recovery.py",
    "tests/e2e/test_answers.py",
    "tests/e2e/test_daily.py",
    "tests/e2e/test_story.py",
)


class ByCloud(LoadScopeScheduling):
    """Gives whole files to processes, and all files that share a cloud or a control plane to one process."""

    def _split_scope(self, nodeid: str) -> str:
        place = _place(nodeid)
        return next((places[0] for places in TOGETHER if place in places), _file(nodeid))


@pytest.hookimpl(optionalhook=True)  # also if xdist is switched off
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByCloud:
    """Do what ``--dist loadgroup`` of this xdist would do, if this pytest did not ignore its names."""
    config.option.loadscopereorder = False
    return ByCloud(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by line or folder, as they are listed, but the longest files first; then in the order of the file."""
    items.sort(key=lambda item: _rank_of(item.nodeid))


def _rank_of(nodeid: str) -> tuple[int, int, int]:
    place = _place(nodeid)
    line = next((number for number, places in enumerate(TOGETHER) if place in places), len(TOGETHER))
    return line, _rank(_file(nodeid), LONGEST), _rank(place, EARLY)


def _rank(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _place(nodeid: str) -> str:
    """Return what the lists here call it: its file, or else its folder."""
    file = _file(nodeid)
    return file if any(file in places for places in TOGETHER) else str(PurePosixPath(file).parent)


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
