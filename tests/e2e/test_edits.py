"""A spec and rights change under a running training: it goes on, and its conditions say how it is now."""

from __future__ import annotations

import json

import pytest

from sandbox.demo.observer import condition, holds
from tests.e2e.rig import CREDENTIALS, Rig, Running, machine

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]

CONTAINER = "/spec/jobTemplate/spec/template/spec/containers/0"


async def test_a_swap_in_the_template_takes_no_effect_and_is_told(rig: Rig, namespace: str) -> None:
    manifest = rig.job(replicas=1)
    job = await rig.start(namespace, manifest)
    env = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["env"]

    async def patch(*changes: object) -> None:
        await rig.kubectl("patch", "sij", job.name, "-n", namespace, "--type=json", "-p", json.dumps(changes))

    # Replaces one undeclared key of a container by another: no rule of the API server sees it.
    swap = {"op": "add", "path": f"{CONTAINER}/command", "value": ["sh", "-c", "echo another training"]}
    await patch({"op": "remove", "path": f"{CONTAINER}/env"}, swap)
    await job.until(lambda: condition(job.object, "Accepted").get("reason") == "CannotBeChanged", 60, "a refusal")
    await job.until(lambda: job.told("EditRefused"), 30, "an Event")
    assert "jobTemplate cannot be changed" in job.told("EditRefused")[0]
    undo = {"op": "add", "path": f"{CONTAINER}/env", "value": env}
    await patch({"op": "remove", "path": f"{CONTAINER}/command"}, undo)
    await job.until(lambda: holds(job.object, "Accepted"), 60, "Accepted again")
    assert job.entry(0)["incarnation"] == 0
    await rig.delete(namespace, manifest)


async def test_a_right_that_is_withdrawn_is_told_while_the_training_goes_on(rig: Rig, namespace: str) -> None:
    gcp = {"serviceAccount": "trainer@my-project.iam.gserviceaccount.com"}  # no other test asks for this right
    await rig.apply(namespace, machine(gcp=machine()["spec"]["gcp"] | gcp))
    manifest = rig.job(replicas=1)
    await rig.apply(namespace, CREDENTIALS, manifest)
    job = Running(rig, namespace, "job")
    await job.trains(0)
    right = "compute.instances.setServiceAccount"
    await rig.control.fault("withdraw_permissions", right)
    try:
        await job.until(lambda: not holds(job.object, "CredentialsReady"), 90, "CredentialsReady=False")
        assert right in condition(job.object, "CredentialsReady")["message"]
        assert holds(job.object, "Accepted")
        assert job.entry(0)["incarnation"] == 0
    finally:
        await rig.control.fault("grant_permissions", right)
    await job.until(lambda: holds(job.object, "CredentialsReady"), 90, "CredentialsReady=True")
    assert job.entry(0)["incarnation"] == 0
