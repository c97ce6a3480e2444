"""The pages name only faults and traps that the sandbox plays, with parameters that these take."""

import inspect
import re
from pathlib import Path

import pytest

from sandbox.checkpoint_operator import CheckpointOperator
from sandbox.checkpoint_operator.traps import TRAPS
from sandbox.gce.faults import Faults
from sandbox.plays import play_fault

DOCS = Path(__file__).parents[2] / "docs"
FAULTS_PAGE = (DOCS / "faults.md").read_text()
PLAYED = re.findall(r"`fault ([^`…]+)`", FAULTS_PAGE)
TRAPPED = re.findall(r"`trap ([^`…]+)`", FAULTS_PAGE)


@pytest.mark.parametrize("command", PLAYED)
def test_a_fault_of_the_page_is_played(command: str) -> None:
    name, *words = command.split()
    play_fault(Faults(), name, [], dict(word.split("=") for word in words))


@pytest.mark.parametrize("command", TRAPPED)
def test_a_trap_of_the_page_is_played(command: str) -> None:
    name, *words = command.split()
    assert name in TRAPS
    inspect.signature(CheckpointOperator.play).bind(None, name, **dict(word.split("=") for word in words))


def test_the_page_names_some_of_both() -> None:
    assert len(PLAYED) > 10
    assert TRAPPED


def test_the_page_lists_every_trap_with_its_sentence() -> None:
    table = FAULTS_PAGE.partition("| trap | the operator |\n|---|---|\n")[2]
    assert dict(re.findall(r"^\| `(\S+)` \| (.+) \|$", table, re.MULTILINE)) == TRAPS
