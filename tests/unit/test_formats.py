"""One definition of each format, and the one helper that makes paths of names."""

from typing import Any

import pytest

from api.formats import misshapen, reshaped
from api.names import is_segment, shown
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec
from clients.kube import UnsafeNameError, path, selector
from tests.hostile import HOSTILE

VM = {"vmImage": "i", "gcp": {"project": "p", "zone": "us-central1-a", "machineType": "n1-standard-4"}}
JOB = {
    "jobTemplate": {"spec": {"a": 1}},
    "checkpointConfig": {"checkpointImageRepo": "gcr.io/p/repo"},
    "spotInstanceVMRef": {"name": "spot"},
}


def test_a_path_is_made_of_its_parts() -> None:
    assert path("v1", "nodes") == "/api/v1/nodes"
    assert path("v1", "nodes", name="n-1.zone") == "/api/v1/nodes/n-1.zone"
    assert path("batch/v1", "jobs", "team-a", "a", "status") == "/apis/batch/v1/namespaces/team-a/jobs/a/status"


@pytest.mark.parametrize("value", [*HOSTILE, "", ".", "..", " ", "a b", "a\\b", "a;b", "a\n", "\u2024\u2024"])
def test_no_part_of_a_path_leads_elsewhere(value: str) -> None:
    for parts in (
        {"namespace": value, "name": "a"},
        {"namespace": "a", "name": value},
        {"namespace": "a", "name": "a", "sub": value},
        {"api_version": value},
        {"plural": value},
    ):
        with pytest.raises(UnsafeNameError) as refused:
            path(**{"api_version": "v1", "plural": "secrets", **parts})
        assert refused.value.status == 400
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 150


@pytest.mark.parametrize(
    "value", [*(each for each in HOSTILE if each != ".."), "a,b=c", "a=b", "a!=b", "a in (b)", "a\n"]
)
def test_a_selector_has_no_more_conditions_than_were_asked_for(value: str) -> None:
    with pytest.raises(UnsafeNameError):
        selector({"app": value})


def test_a_selector_joins_its_conditions() -> None:
    assert selector({"training.dcnlab.com/job": "0a1b", "spec.nodeName": "n.a", "held": None, "empty": ""}) == (
        "training.dcnlab.com/job=0a1b,spec.nodeName=n.a,held,empty="
    )


def test_a_value_is_shown_quoted_and_short() -> None:
    assert shown("a\nb") == r"'a\nb'"
    assert shown("x" * 1000) == f"'{'x' * 59}…"
    assert not is_segment(None)


def test_each_value_with_a_wrong_format_is_named_with_the_remedy() -> None:
    config = {"checkpointRepoCredentialRef": {"name": "../x", "namespace": "A"}, "checkpointImageRepo": "gcr.io/p/r:t"}
    found = misshapen(SpotInstanceJobSpec.model_validate({**JOB, "checkpointConfig": config}))
    assert [str(each).split(" is ")[0] for each in found] == [
        "checkpointConfig.checkpointImageRepo: 'gcr.io/p/r:t'",
        "checkpointConfig.checkpointRepoCredentialRef.name: '../x'",
        "checkpointConfig.checkpointRepoCredentialRef.namespace: 'A'",
    ]
    assert all("for example" in str(each) for each in found)


def test_values_in_lists_are_looked_at() -> None:
    vm = SpotInstanceVMSpec.model_validate(
        {**VM, "gcp": {**VM["gcp"], "networkTags": ["ok", "Not Ok"], "alternatives": [{"machineType": "../n1"}]}}
    )
    assert [str(each).split(":")[0] for each in misshapen(vm)] == [
        "gcp.alternatives[0].machineType",
        "gcp.networkTags[1]",
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"gcp": {"project": "example.com:my-project"}},
        {"gcp": {"project": "123456789012"}},
        {"gcp": {"machineType": "n2-custom-8-16384-ext", "minCpuPlatform": "Intel Ice Lake"}},
        {"gcp": {"network": "projects/host/global/networks/shared", "subnetwork": ""}},
        {"gcp": {"network": "https://www.googleapis.com/compute/v1/projects/host/global/networks/shared"}},
        {"gcp": {"serviceAccount": "default"}},
        {"gcp": {"serviceAccount": "123-compute@developer.gserviceaccount.com"}},
        {"gcp": {"serviceAccount": "sa@p.example.com.iam.gserviceaccount.com", "diskType": "hyperdisk-balanced"}},
        {"vmImage": "https://www.googleapis.com/compute/v1/projects/p/global/images/family/f"},
        {"vmImage": "example.com:images/outlast-node"},
        {"kubeadmJoinConfig": {"controlPlaneEndpoint": "https://10.0.0.2:6443/"}},
        {"kubeadmJoinConfig": {"controlPlaneEndpoint": "[fd00::1]:6443"}},
        {"gpu": {"type": "nvidia-h100-80gb", "count": 8}},
    ],
)
def test_what_the_cloud_takes_has_the_format(fields: dict[str, Any]) -> None:
    given = {**VM, **fields, "gcp": {**VM["gcp"], **fields.get("gcp", {})}}
    assert misshapen(SpotInstanceVMSpec.model_validate(given)) == []


@pytest.mark.parametrize(
    "config",
    [
        {"checkpointImageRepo": repository}
        for repository in (
            "name", "user/name", "gcr.io/p/a__b", "reg:5000/a", "localhost:5000/a/b", "[::1]:5000/x", " gcr.io/p/r\n",
            "https://gcr.io/p/r/", "us-central1-docker.pkg.dev/p/team/bert", "my_registry:5000/a--b",
        )
    ]
    + [{"restoreFrom": text} for text in ("LatestTag", "gcr.io/p/r@sha256:" + "0" * 64, "Team A/run:7", "a/...b/é")]
    + [
        {"checkpointStorage": {"type": "s3", "bucket": "b.c_d-e", **more}}
        for more in ({"pathPrefix": "/a//b c/"}, {"endpoint": "http://minio:9000"}, {"region": "RegionOne"}, {})
    ]
    + [{"checkpointStorage": {"type": "azure", "bucket": "$web", "endpoint": "https://[fd00::1]:9000"}}],
)  # fmt: skip
def test_what_registries_and_buckets_take_has_the_format(config: dict[str, Any]) -> None:
    assert misshapen(SpotInstanceJobSpec.model_validate({**JOB, "checkpointConfig": config})) == []


def test_an_example_stands_for_what_is_wrong_and_all_else_stays() -> None:
    gcp = {**VM["gcp"], "region": "..", "networkTags": ["a", "?"], "alternatives": [{"zone": "us-east1-b"}]}
    document = {**VM, "gcp": gcp, "sshKeySecretRef": {"name": "a/b"}, "startupScript": "x/../y"}
    model = SpotInstanceVMSpec.model_validate(document)
    assert reshaped(document, model) == {
        **document,
        "gcp": {**gcp, "region": None, "networkTags": ["a", "no-tag"]},
        "sshKeySecretRef": {"name": "no-name"},
    }
    assert misshapen(SpotInstanceVMSpec.model_validate(reshaped(document, model))) == []
