"""At apply the API server warns of fields that have no effect beside others, and refuses none of them."""

import json
from copy import deepcopy
from typing import Any

import pytest

from api.ineffective import OF_JOBS, OF_VMS
from tests.bridge.conftest import Manifest, Warned
from tests.bridge.recorder import eventually

STORAGE = {"type": "gcs", "bucket": "checkpoints"}
SAVES_ITSELF = {"checkpointConfig": {"mode": "Application", "checkpointStorage": STORAGE}}
SPECS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "checkpointConfig.verifyRestore": (
        {"checkpointConfig": {"verifyRestore": True, "mode": "Application", "checkpointStorage": STORAGE}},
        {"checkpointConfig": {"verifyRestore": True}},
    ),
    "checkpointConfig.checkpointStorage.region": (
        {"checkpointConfig": {"checkpointStorage": {**STORAGE, "region": "us-east-1"}}},
        {"checkpointConfig": {"checkpointStorage": {"type": "s3", "bucket": "checkpoints", "region": "us-east-1"}}},
    ),
    "gang.step": (
        {**SAVES_ITSELF, "replicas": 1, "gang": {"minSize": 4, "maxSize": 4, "step": 2}},
        {**SAVES_ITSELF, "replicas": 1, "gang": {"minSize": 2, "maxSize": 4, "step": 2}},
    ),
    "sshUser": ({"sshUser": "ubuntu", "gcp": {"sshAccess": "OSLogin"}}, {"sshUser": "ubuntu"}),
    "gcp.preemptionNoticeDuration": (
        {"preemptible": False, "gcp": {"preemptionNoticeDuration": "120s"}},
        {"gcp": {"preemptionNoticeDuration": "120s"}},
    ),
}
"""For each field a spec in which it has no effect, and one in which it has one."""


def laid_over(manifest: Manifest, spec: dict[str, Any]) -> Manifest:
    made = deepcopy(manifest)
    for key, value in spec.items():
        inner = made["spec"].get(key)
        made["spec"][key] = {**inner, **value} if isinstance(inner, dict) else value
    return made


@pytest.mark.parametrize("field", [*OF_JOBS, *OF_VMS], ids=lambda field: field.path)
async def test_a_field_without_effect_is_told(warned: Warned, job: Manifest, vm: Manifest, field: Any) -> None:
    manifest = job if field in OF_JOBS else vm
    vain, useful = SPECS[field.path]
    told = await eventually(lambda: warned(laid_over(manifest, vain)), "the policies are in force")
    assert told == [field.message]
    assert await warned(laid_over(manifest, useful)) == []
    assert await warned(json.loads(json.dumps(manifest))) == []


def test_each_field_has_its_specs() -> None:
    assert SPECS.keys() == {field.path for field in (*OF_JOBS, *OF_VMS)}
