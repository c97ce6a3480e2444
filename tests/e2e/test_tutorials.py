"""The tutorials, followed to the letter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import ROOT
from tests.e2e.reader import Reader
from tests.e2e.rig import Rig

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]

TUTORIALS = ROOT / "docs" / "tutorials"


async def test_the_first_job(rig: Rig, namespace: str, tmp_path: Path) -> None:
    said = await Reader(rig, namespace, tmp_path).follow(TUTORIALS / "first-job.md", steps=1200)
    assert "replica 1" in said["outlast status counter"]
    assert "runs again on node" in said["outlast preempt counter -r 0"]
    assert "Preempted" in said["outlast timeline counter"]
    assert "<svg" in (tmp_path / "counter.html").read_text()


async def test_a_training_that_saves_itself(rig: Rig, namespace: str, tmp_path: Path) -> None:
    said = await Reader(rig, namespace, tmp_path).follow(TUTORIALS / "saves-itself.md")
    [printed] = [text for command, text in said.items() if "restoredFrom" in command]
    assert printed.startswith("tutorial/")
    assert "step=1/" in said["outlast logs saves"], "the first incarnation's, from the bucket"
    assert "training done" in said["outlast logs saves"], "and the last one's"


async def test_from_the_go_operator(rig: Rig, namespace: str, tmp_path: Path) -> None:
    said = await Reader(rig, namespace, tmp_path).follow(TUTORIALS / "go-operator.md")
    assert "restartPolicy" in said["kubectl apply -f team.yaml"], "what kubectl warns of"
    [printed] = [text for command, text in said.items() if "provisionedInstances" in command]
    assert printed.count("joinedCluster") == 2


async def test_a_failed_job(rig: Rig, namespace: str, tmp_path: Path) -> None:
    said = await Reader(rig, namespace, tmp_path).follow(TUTORIALS / "failed-job.md")
    assert "RestartsUsedUp" in said["kubectl get sij fails"]
    assert "exit code 7" in said["outlast timeline fails"]
    assert "step=4" in said["outlast logs fails"]
    assert "n1-standard-5" in said["outlast status never"]
