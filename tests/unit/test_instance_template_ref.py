"""``instanceTemplateRef`` is another name of ``spotInstanceVMRef``, and nobody who reads a spec knows of both."""

from typing import Any

import pytest
from pydantic import ValidationError

from activities.orphans.sources import sources_by_project
from api.spot_instance_job import SpotInstanceJobSpec, vm_name_in

SPEC: dict[str, Any] = {"jobTemplate": {}, "checkpointConfig": {}}
OLD, NEW = SPEC | {"spotInstanceVMRef": {"name": "t4"}}, SPEC | {"instanceTemplateRef": {"name": "t4"}}


@pytest.mark.parametrize("other", [{}, {"spotInstanceVMRef": None}])
def test_both_are_the_same_also_in_payloads(other: Any) -> None:
    old, new = (SpotInstanceJobSpec.model_validate(each) for each in (OLD, NEW | other))
    assert new == old
    assert new.model_dump_json(by_alias=True) == old.model_dump_json(by_alias=True)
    assert "instanceTemplateRef" not in new.model_dump(by_alias=True)
    assert SpotInstanceJobSpec.model_validate_json(new.model_dump_json(by_alias=True)) == new
    assert vm_name_in(NEW) == vm_name_in(OLD) == "t4"


@pytest.mark.parametrize(("spec", "complaint"), [(OLD | NEW, "and not both"), (SPEC, "spotInstanceVMRef")])
def test_one_of_them_is_needed(spec: Any, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        SpotInstanceJobSpec.model_validate(spec)


def test_the_sweep_finds_a_jobs_credentials_by_either() -> None:
    gcp = {"project": "team", "zone": "us-central1-a", "machineType": "n1-standard-4"}
    where = {"namespace": "a", "name": "t4"}
    vm = {"metadata": where, "spec": {"vmImage": "node", "gcp": gcp}}
    for spec in (OLD, NEW):
        job = {"metadata": where, "spec": spec | {"gcpCredentialsSecretRef": {"name": "key"}}}
        [found, own] = sources_by_project([vm], [job])["team"]
        assert found.credentials is not None
        assert (found.credentials.name, own.credentials) == ("key", None)
