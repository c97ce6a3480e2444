"""docs/answers.md: three questions of newcomers, each in its situation, each answered by three commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.commands import ROOT, commands_in
from tests.e2e.reader import Reader
from tests.e2e.rig import CREDENTIALS, Rig, machine

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]

PAGE = (ROOT / "docs" / "answers.md").read_text()


def script(question: str) -> list[str]:
    """Return the three commands below a question."""
    section = PAGE.partition(f"## {question}\n")[2].partition("\n## ")[0]
    found = commands_in(section)
    assert len(found) == 3
    return found


async def test_my_job_does_not_start(rig: Rig, namespace: str, tmp_path: Path) -> None:
    zone = "us-central1-f"
    job, vm = (
        rig.job("bert", replicas=1),
        machine(gcp={"project": "my-project", "zone": zone, "machineType": "n1-standard-4"}),
    )
    (tmp_path / "bert.yaml").write_text(yaml.safe_dump_all([vm, job]))
    reader = Reader(rig, namespace, tmp_path)
    await rig.control.fault("exhaust", zone)
    try:
        await rig.apply(namespace, CREDENTIALS, vm, job)
        await reader.type("kubectl wait sij/bert --for=condition=CapacityAvailable=False --timeout=200s")
        status, timeline, plan = [await reader.type(command) for command in script("My job does not start")]
    finally:
        await rig.control.fault("restore_capacity", zone)
        await reader.type("kubectl delete sij bert")
    words = " ".join(re.sub("[│├└─]", " ", status).split())
    assert re.search(r"waits: .*enough resources.* \(for \d+", words)
    assert "NoCapacity" in timeline
    assert zone in plan


async def test_my_job_got_slower(rig: Rig, namespace: str, tmp_path: Path) -> None:
    await rig.start(namespace, rig.job("bert", replicas=1, interval="10s"))
    reader = Reader(rig, namespace, tmp_path)
    await reader.type("outlast preempt bert")
    status, _, log = [await reader.type(command) for command in script("My job got slower")]
    assert "1 preemptions" in status
    assert 'class="loss"' in (tmp_path / "bert.html").read_text()
    assert "step=" in log
    await reader.type("kubectl delete sij bert")


async def test_what_did_last_week_cost(rig: Rig, namespace: str, tmp_path: Path) -> None:
    job = await rig.start(namespace, rig.job("gone", replicas=1))
    await job.completed()
    reader = Reader(rig, namespace, tmp_path)
    await reader.type("kubectl delete sij gone")
    await rig.start(namespace, rig.job("stays", replicas=1))
    table, rows, columns = [await reader.type(command) for command in script("What did last week cost?")]
    assert "ON-DEM" in table
    ours = {row["job"]: row for row in json.loads(rows) if row["namespace"] == namespace}
    assert set(ours) == {"gone", "stays"}
    assert ours["gone"]["onDemandUsd"] >= ours["gone"]["usd"]
    assert "stays" in columns
    await reader.type("kubectl delete sij stays")
