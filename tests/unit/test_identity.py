"""To whom the worker's own identity is lent, and what a job would borrow of it."""

from typing import Any

import pytest

from activities.documents.identity import SETTING, not_lent, parse_grants
from api.identity import borrowed
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec
from tests.activities.world import VM, training

TEXT = """
# platform team
ml: gcp://ml-project gs://ml-checkpoints   # two of them
research: gcp://*, s3://research
"*": gs://everybodys
"""


def spec(cloud: str | None = None, **storage: Any) -> SpotInstanceJobSpec:
    config = {"checkpointImageRepo": "gcr.io/p/r"} | ({"checkpointStorage": storage} if storage else {})
    body = {"jobTemplate": training(), "checkpointConfig": config, "spotInstanceVMRef": {"name": "spot"}}
    return SpotInstanceJobSpec.model_validate(body | ({"gcpCredentialsSecretRef": {"name": cloud}} if cloud else {}))


@pytest.mark.parametrize(
    ("namespace", "wanted", "permitted"),
    [
        ("ml", "gcp://ml-project", True),
        ("ml", "gs://ml-checkpoints", True),
        ("ml", "gs://ml-checkpoints-2", False),
        ("ml", "gcp://another", False),
        ("ml", "s3://ml-checkpoints", False),
        ("research", "gcp://another", True),
        ("research", "gs://ml-checkpoints", False),
        ("anybody", "gs://everybodys", True),
        ("anybody", "gcp://ml-project", False),
        ("outlast-system", "gcp://ml-project", True),
    ],
)
def test_what_is_lent(namespace: str, wanted: str, permitted: bool) -> None:
    assert parse_grants(TEXT, "outlast-system").permits(namespace, wanted) is permitted


def test_by_default_outlasts_own_namespace_alone_has_it() -> None:
    nothing = parse_grants("", "outlast-system")
    assert nothing.permits("outlast-system", "gcp://p")
    assert not nothing.permits("default", "gcp://p")


def test_lines_may_be_divided_by_semicolons_as_in_a_shell() -> None:
    assert parse_grants("a: gcp://p; b: gcp://q", "o").permits("b", "gcp://q")


@pytest.mark.parametrize("line", ["ml", "ml: p", "ml:", "ml: gcp://p/q", "ML: gcp://p", ": gcp://p", "ml: ftp://b"])
def test_a_line_that_cannot_be_read_is_told_with_an_example(line: str) -> None:
    with pytest.raises(ValueError, match=f"{SETTING}: cannot read .*write a line such as"):
        parse_grants(line, "o")


@pytest.mark.parametrize(
    ("job", "found"),
    [
        (spec(), ["gcp://p"]),
        (spec("key"), []),
        (spec(type="gcs", bucket="b"), ["gcp://p", "gs://b"]),
        (spec("key", type="gcs", bucket="b"), []),
        (spec("key", type="s3", bucket="b"), ["s3://b"]),
        (spec("key", type="azure", bucket="b"), ["azure://b"]),
        (spec("key", type="s3", bucket="b", credentialsSecretRef={"name": "s"}), []),
        (spec("key", type="s3", bucket="b", endpoint="https://minio.example"), []),
    ],
)
def test_what_a_job_would_borrow(job: SpotInstanceJobSpec, found: list[str]) -> None:
    assert borrowed(job, SpotInstanceVMSpec.model_validate(VM)) == found


def test_a_refusal_names_the_setting_and_what_to_write() -> None:
    told = not_lent("gcp://p", "ml").problem
    assert (told.type, told.status, told.reason) == ("Accepted", "False", "IdentityNotLent")
    assert f"'ml: gcp://p' to {SETTING}" in told.message
    assert parse_grants("ml: gcp://p", "o").permits("ml", "gcp://p")
