"""``outlast doctor`` on a whole cloud: the worker says what it sees, and each fault is one line with its remedy."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from typing import Any

import pytest

from tests.e2e.rig import CREDENTIALS, REPOSITORY, Rig, Running, machine

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]


async def doctor(rig: Rig, namespace: str, job: str) -> dict[str, dict[str, Any]]:
    """Run the command as an operator, and return its lines by their parts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "-n", namespace, "doctor", job, "-o", "json",
        cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **{name: rig.addresses[name] for name in ("KUBECONFIG", "TEMPORAL_ADDRESS")}},
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), 200)
    return {each["part"]: each for each in json.loads(said)}


async def test_the_worker_sees_what_a_job_needs_and_lacks(rig: Rig, namespace: str) -> None:
    project = f"project-{secrets.token_hex(3)}"
    gcp = {"project": project, "zone": "us-central1-b", "machineType": "n1-standard-4"}
    await rig.apply(namespace, machine(gcp=gcp), CREDENTIALS, rig.job(replicas=1))
    job = Running(rig, namespace, "job")
    await job.trains(0)
    found = await doctor(rig, namespace, "job")
    vm = f"{namespace}/{machine()['metadata']['name']}"
    for part in (
        "Temporal", "search attributes", "task queue outlast", "the worker's rights", "join endpoint",
        f"SSH key of {vm}", f"quota for {vm}", f"RegistryReady for {namespace}/job",
        f"CredentialsReady for {namespace}/job", f"agent on {job.vm(0)}", f"checkpoints on {job.vm(0)}",
    ):  # fmt: skip
        assert found[part]["well"], found[part]
    await rig.control.fault("set_quota", "GPUS_ALL_REGIONS", 1, None, project=project)
    quota = (await doctor(rig, namespace, "job"))[f"quota for {vm}"]
    await rig.control.fault("set_quota", "GPUS_ALL_REGIONS", None, None, project=project)
    assert quota["told"] == "GPUS_ALL_REGIONS: 1 of 1 are in use, and a VM needs 1"
    assert "quotas" in quota["remedy"]
