"""At apply the API server warns of fields of a template without effect, in the words of the condition."""

import json
from typing import Any

import pytest

from api.unkept import QUEUE, UNKEPT, Unkept, unkept
from tests.bridge.conftest import Manifest, Warned
from tests.bridge.recorder import eventually
from tests.unit.test_unkept import OTHERS, with_

FIELDS = [each for each in UNKEPT if isinstance(each, Unkept)]


def template_of(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["jobTemplate"]
    return found


async def in_force(warned: Warned, job: Manifest) -> None:
    """Wait, because the API server heeds a policy some moments after it was applied."""
    probe = json.loads(json.dumps(job))
    with_("spec.ttlSecondsAfterFinished", 1, template_of(probe))

    async def told() -> list[str]:
        return await warned(probe)

    await eventually(told, "the policy is in force")


async def test_a_job_that_says_nothing_in_vain_is_applied_in_silence(warned: Warned, job: Manifest) -> None:
    await in_force(warned, job)
    assert await warned(job) == []


async def test_every_field_is_told_in_the_words_of_the_condition(warned: Warned, job: Manifest) -> None:
    await in_force(warned, job)
    for field in FIELDS:
        made = json.loads(json.dumps(job))
        template_of(made).setdefault("metadata", {})
        with_(field.path, OTHERS.get(field.path, "something"), template_of(made))
        assert await warned(made) == unkept(template_of(made), {}) == [field.message], field.path
        for value in field.harmless:
            with_(field.path, value, template_of(made))
            assert await warned(made) == [], (field.path, value)


async def test_a_toleration_of_a_lost_node_that_ends_is_told(warned: Warned, job: Manifest) -> None:
    await in_force(warned, job)
    lost = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 60}
    other = {"key": "maintenance", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}
    for tolerations in ([other], [other, lost], [{"operator": "Exists", "tolerationSeconds": 60}]):
        template_of(job)["spec"]["template"]["spec"]["tolerations"] = tolerations
        assert await warned(job) == unkept(template_of(job), {})


@pytest.mark.parametrize("labels_of", ["the SpotInstanceJob", "its template"])
async def test_a_queue_may_suspend(warned: Warned, job: Manifest, labels_of: str) -> None:
    await in_force(warned, job)
    with_("spec.suspend", True, template_of(job))
    assert len(await warned(job)) == 1
    holder = job if labels_of == "the SpotInstanceJob" else template_of(job)
    holder.setdefault("metadata", {})["labels"] = {QUEUE: "research"}
    assert await warned(job) == []


async def test_an_edit_of_something_else_warns_of_nothing(
    warned: Warned, control_plane: Any, namespace: str, job: Manifest
) -> None:
    """Such edits are the bridge's and the worker's writes of finalizers."""
    await in_force(warned, job)
    with_("spec.ttlSecondsAfterFinished", 1, template_of(job))
    await control_plane.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(job))
    job["metadata"]["annotations"] = {"a": "b"}
    assert await warned(job) == []
    job["spec"]["maxRestarts"] = 7
    assert len(await warned(job)) == 1
