"""Others in the crowd: replicas whose VMs join, and replicas that look for a VM in vain, while notices come."""

from __future__ import annotations

from tests.bench.crowd.stage import Stage

JOINING, SEEKING = "joining", "seeking"
FULL_ZONE = "us-central1-c"
LONG = 36_000.0
JOIN_SECONDS = 1800.0

TIMINGS = {
    "OUTLAST_CREATES_PER_SECOND": "50",
    "OUTLAST_TIMING_SCHEDULE_WAIT": "12",
    "OUTLAST_TIMING_BOOT_DEADLINE": str(LONG),
}
"""What makes VMs come soon, and then boot for as long as the measurement takes."""


async def seek(stage: Stage, count: int) -> None:
    """Have so many replicas wait for a VM's SSH, and as many for capacity. No GPU of the cluster is free."""
    assert stage.cloud.gce
    stage.cloud.gce.faults.slow_boots(count, LONG)
    await stage.cordon_free_ones()
    await stage.machine(JOINING, FULL_ZONE)
    await stage.machine(SEEKING)
    for machine in (JOINING, SEEKING):
        await stage.jobs([f"{machine}-{number:05}" for number in range(count)], machine, replicas=1)
    await stage.until(lambda: _booting(stage) >= count, JOIN_SECONDS, f"{count} VMs to boot")


def _booting(stage: Stage) -> int:
    assert stage.cloud.gce
    return sum(each["status"] == "RUNNING" for each in stage.cloud.gce.instances())
