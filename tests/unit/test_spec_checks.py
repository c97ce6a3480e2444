"""What is wrong with a spec, and which Secrets it uses."""

from typing import Any

import pytest
from pydantic import ValidationError

from activities.documents.checks import (
    LARGEST_SPEC,
    secrets_in_use,
    spec_problems,
    too_large,
    unreadable,
)
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec

VM = {"vmImage": "i", "gcp": {"project": "p", "zone": "us-central1-a", "machineType": "n1-standard-4"}}


def spec(config: dict[str, Any] | None = None, **more: Any) -> SpotInstanceJobSpec:
    checkpoints = {"checkpointImageRepo": "gcr.io/p/repo"} | (config or {})
    required = {"jobTemplate": {}, "checkpointConfig": checkpoints, "spotInstanceVMRef": {"name": "spot"}}
    return SpotInstanceJobSpec.model_validate(required | more)


def vm(**more: Any) -> SpotInstanceVMSpec:
    return SpotInstanceVMSpec.model_validate(VM | more)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"checkpointInterval": "0s"}, "checkpointInterval is zero"),
        ({"checkpointImageRepo": None}, "checkpointImageRepo is not set"),
        ({"checkpointImageRepo": "gcr.io/p/r:tag"}, "names a tag"),
        ({"progress": {"logPattern": "step="}}, "0 groups"),
        ({"restoreFrom": "A B"}, "restoreFrom"),
        ({"mode": "Application", "restoreFrom": "LatestTag"}, "name a prefix in the bucket"),
        (
            {"checkpointStorage": {"type": "gcs", "bucket": "b", "layout": "Orbax"}},
            "leave layout out, or set that mode",
        ),
    ],
)
def test_problem_says_what_to_change(config: dict[str, Any], says: str) -> None:
    [condition] = spec_problems(spec(config))
    assert (condition.type, condition.status, condition.reason) == ("Accepted", "False", "InvalidSpec")
    assert says in condition.message


def test_a_stall_timeout_needs_to_know_the_progress() -> None:
    [condition] = spec_problems(spec(stallTimeout="30m"))
    assert "set checkpointConfig.progress.logPattern" in condition.message
    assert spec_problems(spec(stallTimeout="0s")) == []
    assert spec_problems(spec({"progress": {"logPattern": r"step=(\d+)"}}, stallTimeout="30m")) == []


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"checkpointInterval": "auto"},
        {"restoreFrom": "LatestTag"},
        {"mode": "Application", "checkpointImageRepo": None},
        {"mode": "Application", "restoreFrom": "Team A/run:7"},
    ],
)
def test_good_spec_has_no_problems(config: dict[str, Any]) -> None:
    assert spec_problems(spec(config)) == []


OS_LOGIN = {"gcp": VM["gcp"] | {"sshAccess": "OSLogin"}, "sshKeySecretRef": {"name": "mine"}}  # type: ignore[operator]


@pytest.mark.parametrize("credentials", [None, {"name": "gcp", "namespace": "vault"}], ids=["lent", "shared"])
def test_a_tenants_key_goes_into_no_login_profile_of_somebody_elses_account(credentials: Any) -> None:
    [condition] = spec_problems(spec(gcpCredentialsSecretRef=credentials), vm(**OS_LOGIN), "ml")
    assert condition.message.startswith(
        "SpotInstanceVM's sshKeySecretRef: gcp.sshAccess: OSLogin would let this key in"
    )


@pytest.mark.parametrize("credentials", [{"name": "gcp"}, {"name": "gcp", "namespace": "ml"}])
def test_a_tenants_key_may_go_into_the_login_profile_of_its_own_account(credentials: Any) -> None:
    assert spec_problems(spec(gcpCredentialsSecretRef=credentials), vm(**OS_LOGIN), "ml") == []
    assert spec_problems(spec(), vm(sshKeySecretRef={"name": "mine"}), "ml") == []
    assert spec_problems(spec(), vm(**OS_LOGIN | {"sshKeySecretRef": None}), "ml") == []


def test_a_spec_that_temporal_would_not_take_is_refused_with_the_remedy() -> None:
    assert too_large("spec", {"jobTemplate": "#" * (LARGEST_SPEC - 100)}) == []
    [condition] = too_large("SpotInstanceVM spot", {"startupScript": "#" * LARGEST_SPEC})
    assert (condition.type, condition.status, condition.reason) == ("Accepted", "False", "TooLarge")
    assert condition.message.startswith("SpotInstanceVM spot takes 512 KiB, and the limit is 512 KiB")
    assert "ConfigMap" in condition.message


def test_secrets_are_looked_for_beside_the_job_unless_told_otherwise() -> None:
    job = spec(
        {"checkpointRepoCredentialRef": {"name": "registry"}},
        gcpCredentialsSecretRef={"name": "gcp", "namespace": "shared"},
    )
    uses = secrets_in_use(job, vm(sshKeySecretRef={"name": "ssh"}), "team")
    assert [(use.namespace, use.name, use.optional) for use in uses] == [
        ("shared", "gcp", False),
        ("team", "registry", False),
        ("team", "ssh", False),
        ("team", "kubeadm-join-token", True),
    ]


def test_secret_of_the_bucket_is_in_use() -> None:
    storage = {"type": "s3", "bucket": "b", "credentialsSecretRef": {"name": "minio"}}
    uses = secrets_in_use(spec({"checkpointStorage": storage}), None, "team")
    assert [(use.namespace, use.name, use.optional) for use in uses] == [("team", "minio", False)]


def test_join_secret_that_the_vm_names_is_needed() -> None:
    uses = secrets_in_use(spec(), vm(kubeadmJoinConfig={"tokenSecretRef": {"name": "join"}}), "team")
    assert [(use.name, use.optional) for use in uses] == [("join", False)]


def test_unreadable_spec_names_the_fields_and_no_values() -> None:
    with pytest.raises(ValidationError) as caught:
        spec(replicas=0, gcpCredentialsSecretRef={"name": 17, "namespace": "hunter2" * 20})
    message = unreadable("spec", caught.value).message
    assert "replicas: " in message
    assert "hunter2" not in message
