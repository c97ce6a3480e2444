"""What cannot be had: stockouts, quotas, lost answers, refused deletions, and on-demand meanwhile.

The stories run side by side, each in a project of its own.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from sandbox.demo.observer import Json, condition
from sandbox.demo.trainings import Training
from tests.e2e.rig import CREDENTIALS, Rig, Running, machine

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]

EXHAUSTED = "us-west1-a"  # for everybody: no other test buys there
SPOT_QUOTA = "PREEMPTIBLE_NVIDIA_T4_GPUS"  # on-demand GPUs do not count in it


@dataclass
class Returned:
    """A replica that ran on-demand and returned to spot."""

    job: Running
    dear: Json
    spot: Json
    after: Training


@dataclass
class Told:
    """What became of the stories."""

    exhausted: Running
    quota: Running
    healed: Json
    returned: Returned
    unclear: Running
    left: list[str]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def told(rig: Rig) -> AsyncIterator[Told]:
    """Play all stories. The jobs that still train are there for the tests to look at."""
    namespaces = [await rig.namespace() for _ in range(5)]
    exhausted, quota, healed, returned, (unclear, left) = await asyncio.gather(
        _exhausted(rig, namespaces[0]),
        _quota(rig, namespaces[1]),
        _healed(rig, namespaces[2]),
        _returned(rig, namespaces[3]),
        _unclear(rig, namespaces[4]),
    )
    yield Told(exhausted, quota, healed, returned, unclear, left)
    await rig.kubectl("delete", "namespace", *namespaces, "--wait=false")


def _project() -> str:
    """Make a project, because the market's memory and the quotas belong to one."""
    return f"project-{secrets.token_hex(3)}"


async def _applied(rig: Rig, namespace: str, replicas: int = 1, spec: Json | None = None, **gcp: object) -> Running:
    spot_vm = machine(gcp={"machineType": "n1-standard-4", **gcp}, **(spec or {}))
    await rig.apply(namespace, spot_vm, CREDENTIALS, rig.job(replicas=replicas))
    return Running(rig, namespace, "job")


async def _exhausted(rig: Rig, namespace: str) -> Running:
    await rig.control.fault("exhaust", EXHAUSTED)
    job = await _applied(rig, namespace, project=_project(), zone=EXHAUSTED, zones=["us-central1-b"])
    await job.trains(0)
    await rig.control.fault("restore_capacity", EXHAUSTED)
    return job


async def _quota(rig: Rig, namespace: str) -> Running:
    project, zones = _project(), ["europe-west4-a", "europe-west4-b", "europe-west4-c"]
    await rig.control.fault("set_quota", SPOT_QUOTA, 0, "europe-west4", project=project)
    elsewhere = [{"zone": "us-central1-b"}]
    job = await _applied(rig, namespace, project=project, zone=zones[0], zones=zones[1:], alternatives=elsewhere)
    await job.trains(0)
    return job


async def _healed(rig: Rig, namespace: str) -> Json:
    """Return the condition that reported the quota."""
    project = _project()
    await rig.control.fault("set_quota", SPOT_QUOTA, 0, "asia-east1", project=project)
    job = await _applied(rig, namespace, project=project, zone="asia-east1-a")
    blocked = lambda: condition(job.object, "CapacityAvailable").get("reason") == "QuotaExceeded"  # noqa: E731
    await job.until(blocked, 60, "CapacityAvailable: QuotaExceeded")
    await job.until(lambda: "next: " in condition(job.object, "CapacityAvailable")["message"], 30, "what is next")
    found = condition(job.object, "CapacityAvailable")
    await rig.control.fault("set_quota", SPOT_QUOTA, None, "asia-east1", project=project)
    await job.trains(0)
    return found


async def _returned(rig: Rig, namespace: str) -> Returned:
    fallback, project = {"onDemandFallback": {"after": "3s", "maxReplicas": 1}}, _project()
    await rig.control.fault("set_quota", SPOT_QUOTA, 0, "us-east1", project=project)
    job = await _applied(rig, namespace, spec=fallback, project=project, zone="us-east1-c")
    await job.trains(0)
    dear, before = _instance(rig, job.vm(0)), job.training(0)
    await rig.control.fault("set_quota", SPOT_QUOTA, None, "us-east1", project=project)
    await job.trains(0, but=(before,), seconds=180)
    await job.until(lambda: dear["name"] not in [each["name"] for each in rig.observer.vms], 60, "no on-demand VM")
    return Returned(job, dear, _instance(rig, job.vm(0)), job.training(0))


async def _unclear(rig: Rig, namespace: str) -> tuple[Running, list[str]]:
    """Let the VMs of two replicas be created without an answer, and refuse their deletions."""
    project = _project()
    await rig.control.fault("lose_insert_answers", 2, project)
    job = await _applied(rig, namespace, 2, project=project, zone="us-central1-a", zones=["us-central1-b"])
    await job.trains(0, 1)
    made = [each["name"] for each in rig.observer.vms if job.id in each["name"]]
    for name in made:
        await rig.control.fault("refuse_deletes", 3, name)
    await rig.kubectl("delete", "sij", "job", "--namespace", namespace, deadline=400)
    await job.nothing_left(but=("spotinstancevms", "secrets"))
    return job, made


def _instance(rig: Rig, name: str) -> Json:
    return next(each for each in rig.observer.vms if each["name"] == name)


def _zone_of(instance: Json) -> str:
    return str(instance["zone"]).rpartition("/")[2]


async def _events(rig: Rig, namespace: str, reason: str) -> list[str]:
    selector, path = f"--field-selector=reason={reason}", "jsonpath={range .items[*]}{.message}{'\\n'}{end}"
    found = await rig.kubectl("get", "events", "--namespace", namespace, selector, "-o", path)
    return [line for line in found.splitlines() if line]


async def test_an_exhausted_zone_is_left_for_the_next_and_people_read_why(rig: Rig, told: Told) -> None:
    job = told.exhausted
    assert _zone_of(_instance(rig, job.vm(0))) == "us-central1-b"
    lines = await _events(rig, job.namespace, "Buying")
    assert any("not n1-standard-4 + 1 x nvidia-tesla-t4 in us-west1-a (Spot): NoCapacity" in line for line in lines)


async def test_a_quota_blocks_its_region_and_another_serves_at_once(rig: Rig, told: Told) -> None:
    job = told.quota
    assert _zone_of(_instance(rig, job.vm(0))) == "us-central1-b"
    tries = {each["name"] for each in await rig.control.events() if job.id in each["name"]}
    assert len(tries) == 2, await _events(rig, job.namespace, "Buying")  # not one zone of the region after the other


async def test_a_quota_is_told_by_its_metric_with_what_comes_next(told: Told) -> None:
    assert SPOT_QUOTA in told.healed["message"]
    assert "next: n1-standard-4 + 1 x nvidia-tesla-t4 in asia-east1-a (Spot) at" in told.healed["message"]
    assert told.healed["status"] == "False"


async def test_a_replica_on_demand_goes_back_to_spot_from_a_checkpoint_of_its_own(told: Told) -> None:
    returned = told.returned
    models = [each["scheduling"]["provisioningModel"] for each in (returned.dear, returned.spot)]
    assert models == ["STANDARD", "SPOT"]
    assert (returned.after.first or 0) > 0
    assert returned.job.entry(0).get("preemptions", 0) == 0


async def test_answers_that_get_lost_make_no_second_vm(told: Told) -> None:
    assert len(told.left) == 2
    zones = {vm["zone"] for vm in await told.unclear.rig.control.events() if vm["name"] in told.left}
    assert zones == {"us-central1-a", "us-central1-b"}


async def test_a_refused_deletion_is_asked_for_until_it_is_gone(rig: Rig, told: Told) -> None:
    assert not [each["name"] for each in rig.observer.vms if each["name"] in told.left]
