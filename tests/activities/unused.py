"""Rights of the worker that the whole suite of its activities has not used: such a run fails, and names them.

A run of some of the files says nothing, because the others may need what these do not. Each of several processes tells
the first what it has used.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
_TOLD = pytest.StashKey[list[dict[str, Any]]]()
_UNUSED = pytest.StashKey[list[str]]()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Keep what one of several processes has reported."""
    if told := getattr(node, "workeroutput", {}).get("rights"):
        node.config.stash.setdefault(_TOLD, []).append(told)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Report, or judge what all have reported."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["rights"] = _told(session)
        return
    told = [_told(session), *config.stash.get(_TOLD, [])]
    if exitstatus or not any(each["all"] for each in told):
        return
    from tests.activities.rights import ELSEWHERE, granted

    used = {tuple(right) for each in told for right in each["used"]}
    unused = sorted(right for right in granted() - ELSEWHERE if tuple(right) not in used)
    config.stash[_UNUSED] = [f"{right.verb} {right.resource} ({right.group or 'core'})" for right in unused]
    if unused:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Name them where people look."""
    if unused := config.stash.get(_UNUSED, []):
        terminalreporter.section("granted to the worker, and used by no activity", red=True)
        terminalreporter.write_line("\n".join(unused))


def _told(session: pytest.Session) -> dict[str, Any]:
    """Return what this process has used, and whether it knows of all files here."""
    rights = sys.modules.get("tests.activities.rights")  # imported if a test needs it
    options = session.config.option
    files = {item.path for item in getattr(session, "items", [])}
    whole = not options.keyword and not options.markexpr and files >= set(HERE.glob("test_*.py"))
    return {"all": whole, "used": [list(right) for right in sorted(rights.USED)] if rights else []}
