"""Names that others write (labels, status, registries, guests) are taken as names, or not at all."""

from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.cloud_errors import Invalid
from activities.compute.gcp import segments
from activities.compute.instance import instance_body
from activities.documents.protected import protectors
from activities.join.ssh import _readable
from activities.orphans.machines import _is_ours
from activities.registry.client import Registry
from activities.registry.repository import parse_image, parse_repository
from api import names
from api.market import Candidate
from api.spot_instance_vm import SpotInstanceVMSpec
from crd_bridge.checkpoints import owner
from tests.activities.world import loopback_gate
from tests.hostile import HOSTILE

VM = {"vmImage": "i", "gcp": {"project": "p", "zone": "us-central1-a", "machineType": "n1-standard-4"}}
NAME = "outlast-0a1b2c3d-r0-v1-t1"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7l0JHlpyUpF0wDX1cJnWo1oSVKkSHQqZaJ3Dd3M0Qo"


@pytest.mark.parametrize("value", [*HOSTILE, f"{NAME}\n", f"{NAME}/x", "outlast-0a1b2c3d-r0-v1", f"../{NAME}"])
def test_no_other_name_is_a_vms(value: str) -> None:
    assert names.vm_key_of(value) is None
    assert not names.is_vm_key(value)


@pytest.mark.parametrize("zone", [*HOSTILE, None, 7, "us-central1", "us-central1-a\n", "us-central1-a/x", "A-b-c"])
def test_no_other_word_is_a_zone(zone: Any) -> None:
    assert not names.is_zone(zone)


@pytest.mark.parametrize("zone", ["us-central1-a", "us-central1-ai1a", "europe-west4-b"])
def test_a_zone_is_one(zone: str) -> None:
    assert names.is_zone(zone)


@pytest.mark.parametrize("value", [*HOSTILE, "team/../x", "../x/y", "team/a/b", "team/", "/a", "Team/a"])
def test_who_holds_an_object_is_a_job_or_nobody(value: str) -> None:
    finalizer = names.job_finalizer("0a1b2c3d")
    protected = {"metadata": {"finalizers": [finalizer, f"{finalizer}\n"], "annotations": {finalizer: value}}}
    assert protectors(protected) == []
    protected["metadata"]["annotations"] = {finalizer: "team/bert"}
    assert protectors(protected) == [("0a1b2c3d", "team/bert")]


@pytest.mark.parametrize("rest", [*HOSTILE, "a" * 300])
def test_the_bridge_tells_no_workflow_that_can_be_no_jobs(rest: str) -> None:
    pod = {"metadata": {"namespace": "team", "annotations": {names.ANNOTATION_WORKFLOW: f"team/{rest}"}}}
    assert owner(pod) == ("", "")


@pytest.mark.parametrize("project", ["..", "a/b", "a b", "a?b", "A", ""])
def test_a_kubelet_names_no_project_that_is_none(project: str) -> None:
    node = {"metadata": {"name": NAME}, "spec": {"providerID": f"gce://{project}/us-central1-a/{NAME}"}}
    assert not _is_ours(node)
    node["spec"]["providerID"] = f"gce://example.com:my-project/us-central1-a/{NAME}"
    assert _is_ours(node)


@pytest.mark.parametrize("value", [*HOSTILE, "", "a/b", "."])
def test_nothing_but_a_segment_is_asked_of_google(value: str) -> None:
    with pytest.raises(Invalid, match="correct the SpotInstanceVM"):
        segments(project="p", zone=value)


@pytest.mark.parametrize("field", ["diskType", "network", "subnetwork", "serviceAccount", "minCpuPlatform", "project"])
def test_no_instance_is_asked_for_with_a_wrong_name(field: str) -> None:
    spec = SpotInstanceVMSpec.model_validate({**VM, "gcp": {**VM["gcp"], field: "a/../b"}})  # type: ignore[dict-item]
    candidate = Candidate(zone="us-central1-a", machine_type="n1-standard-4")
    with pytest.raises(Invalid, match=f"gcp.{field}: 'a/../b' is not"):
        instance_body(spec, name=NAME, candidate=candidate, labels={}, ssh_public_key="k")


def test_a_zone_from_elsewhere_is_a_zone() -> None:
    candidate = Candidate(zone="us-central1-a/../b", machine_type="n1-standard-4")
    with pytest.raises(Invalid, match="is no zone"):
        instance_body(
            SpotInstanceVMSpec.model_validate(VM), name=NAME, candidate=candidate, labels={}, ssh_public_key="k"
        )


@pytest.mark.parametrize(
    "text",
    ["gcr.io\n/p/r", "../r", "..", "gcr.io/../r", "gcr.io/p/r?x", "gcr.io/p/r#x", "a%2fb/r", "gcr..io/r", "-a.b/r"],
)
def test_no_repository_leads_elsewhere(text: str) -> None:
    with pytest.raises(ValueError, match="is no repository"):
        parse_repository(text)


@pytest.mark.parametrize("tag", ["a\n", "../x", "a/b", "a?b", "x" * 129])
def test_no_tag_leads_elsewhere(tag: str) -> None:
    with pytest.raises(ValueError, match="is no "):
        parse_image(f"gcr.io/p/r:{tag}@sha256:{'0' * 64}")


@pytest.mark.parametrize("reference", [*HOSTILE, "a/b", "sha256:xyz", f"sha256:{'0' * 64}\n", "latest\n", ""])
def test_a_registry_is_asked_for_tags_and_digests_alone(reference: str) -> None:
    registry = Registry(parse_repository("gcr.io/p/r"), None, loopback_gate())
    with pytest.raises(ApplicationError, match="is neither a tag nor a digest"):
        registry._url("manifests", reference)
    assert registry._url("blobs", f"sha256:{'0' * 64}").endswith(f"/v2/p/r/blobs/sha256:{'0' * 64}")


def test_what_a_guest_publishes_is_a_key_or_nothing() -> None:
    lines = [*HOSTILE, KEY, f"{KEY} comment\nssh-rsa AAAA", "ssh-ed25519 AAAA", "cert-authority * ssh-rsa AAAA"]
    assert [key.export_public_key().decode().split()[1] for key in _readable(lines)][:1] == [KEY.split()[1]]


def test_labels_that_are_no_numbers_name_no_incarnation() -> None:
    for value in (*HOSTILE, "\u0661", "-1", "1" * 30):
        labels = {names.LABEL_REPLICA: value, names.LABEL_INCARNATION: "1"}
        assert names.incarnation_in(labels) is None
