"""Machines do not become nodes as they should, and the jobs still end well.

The stories run side by side, each in a zone and a project of its own.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from sandbox.demo.observer import Json
from tests.e2e.rig import CREDENTIALS, Rig, Running, machine

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]

PLAYS: dict[str, Json] = {
    "slow_boots": {"zone": "us-central1-c", "seconds": 10},
    "mix_up_host_keys": {"zone": "us-east1-d"},
    "hang_ssh": {"zone": "us-west1-b"},
    "expire_tokens": {"zone": "europe-west4-c"},
    "skew_clocks": {"zone": "asia-east1-c", "seconds": 86400},
}
DAY_OF_THE_JOB = 200  # seconds; a machine is released after three failed joins, or after JOIN_DEADLINE


@dataclass
class Ended:
    """A job whose training is done, and the VMs that were bought for it, in order."""

    job: Running
    vms: list[str]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ended(rig: Rig) -> AsyncIterator[dict[str, Ended]]:
    """Map what was played on a job's first machine to what became of the job."""
    for name, options in PLAYS.items():
        await rig.control.fault(name, times=1, **options)
    namespaces = [await rig.namespace() for _ in PLAYS]
    zones = [options["zone"] for options in PLAYS.values()]
    found = await asyncio.gather(*map(_trained, [rig] * len(zones), namespaces, zones))
    yield dict(zip(PLAYS, found, strict=True))
    await rig.kubectl("delete", "namespace", *namespaces, "--wait=false")


async def _trained(rig: Rig, namespace: str, zone: str) -> Ended:
    gcp = {"project": f"project-{secrets.token_hex(3)}", "zone": zone, "machineType": "n1-standard-4"}
    await rig.apply(namespace, machine(gcp=gcp), CREDENTIALS, rig.job(replicas=1))
    job = Running(rig, namespace, "job")
    await job.completed(DAY_OF_THE_JOB)
    bought = [each["name"] for each in await rig.control.events() if job.id in each["name"]]
    return Ended(job, list(dict.fromkeys(bought)))


async def test_a_slow_boot_is_waited_for(ended: dict[str, Ended]) -> None:
    assert len(ended["slow_boots"].vms) == 1


async def test_a_machine_that_is_anothers_is_given_up(ended: dict[str, Ended]) -> None:
    story = ended["mix_up_host_keys"]
    assert len(story.vms) == 2
    assert "not the one that was bought" in story.job.told("VMLost")[0]


async def test_a_machine_whose_sshd_falls_silent_while_it_joins_is_given_up(ended: dict[str, Ended]) -> None:
    story = ended["hang_ssh"]
    assert len(story.vms) == 2
    assert story.job.told("VMLost")[0].startswith(
        "replica 0: JoiningTimeout: too late, still waiting for kubeadm join: SSH at "
    )


async def test_an_expired_token_is_followed_by_another_on_the_same_machine(ended: dict[str, Ended]) -> None:
    story = ended["expire_tokens"]
    assert len(story.vms) == 1
    told = [json.dumps(each.object) for each in story.job.observer.history if each.kind == "spotinstancejobs"]
    assert any("JoinRetried: kubeadm join ended 1" in text for text in told if story.job.namespace in text)


async def test_a_machine_with_a_slow_clock_is_given_up(ended: dict[str, Ended]) -> None:
    story = ended["skew_clocks"]
    assert len(story.vms) == 2
    assert "JoinFailed" in story.job.told("VMLost")[0]
    # The last of its joins may also have ended because the API server was slow.
    told = [json.dumps(each.object) for each in story.job.observer.history if each.kind == "spotinstancejobs"]
    assert any("not yet valid" in text for text in told if story.job.namespace in text)
