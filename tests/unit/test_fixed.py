"""Fixed fields: what counts as an edit of them, and that each field of the CRDs has its row in docs/edits.md."""

import re
from pathlib import Path
from typing import Any

import pytest

from api import crd, fixed
from api.spot_instance_job import SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec

DOCS = Path(__file__).parents[2] / "docs" / "edits.md"
ROW = re.compile(r"^\| `([\w.]+)` \| (at once|next|fixed) \|", re.MULTILINE)
IN_ROWS_OF_THEIR_OWN = ("checkpointConfig", "gcp")
FIXED = {"SpotInstanceJob": fixed.JOB, "SpotInstanceVM": fixed.VM}


def job(**config: Any) -> SpotInstanceJobSpec:
    template = {"spec": {"template": {"spec": {"containers": [{"name": "train", "image": "train:1"}]}}}}
    return SpotInstanceJobSpec.model_validate(
        {"jobTemplate": template, "checkpointConfig": config, "spotInstanceVMRef": {"name": "gpu"}}
    )


def vm(project: str) -> SpotInstanceVMSpec:
    gcp = {"project": project, "zone": "us-central1-a", "machineType": "n1-standard-4"}
    return SpotInstanceVMSpec.model_validate({"vmImage": "node", "gcp": gcp})


def paths(old: SpotInstanceJobSpec, new: SpotInstanceJobSpec) -> list[str]:
    return [field.path for field in fixed.edited(fixed.JOB, old, new)]


@pytest.mark.parametrize("kind", crd.KINDS[:2], ids=lambda kind: kind.name)
def test_each_field_says_what_an_edit_of_it_does(kind: crd.Kind) -> None:
    section = DOCS.read_text().partition(f"## {kind.name}\n")[2].partition("\n## ")[0]
    told = dict(ROW.findall(section))
    properties = crd.schema(kind)["properties"]["spec"]["properties"]
    fields = set(properties) - set(IN_ROWS_OF_THEIR_OWN)
    for owner in set(properties) & set(IN_ROWS_OF_THEIR_OWN):
        fields |= {f"{owner}.{name}" for name in properties[owner]["properties"]}
    assert set(told) == fields
    assert {path for path, what in told.items() if what == "fixed"} == {field.path for field in FIXED[kind.name]}


def test_nothing_is_edited_by_what_is_not_fixed() -> None:
    old = job(checkpointInterval="10m")
    assert paths(old, old.model_copy(update={"replicas": 5, "suspend": True})) == []


def test_a_swap_inside_of_the_template_is_an_edit() -> None:
    old = job().model_copy(update={"job_template": {"spec": {"env": 1}}})
    assert paths(old, old.model_copy(update={"job_template": {"spec": {"command": 1}}})) == ["jobTemplate"]


BUCKET = {"type": "s3", "bucket": "b"}


@pytest.mark.parametrize(
    ("before", "after", "is_edit"),
    [
        (None, BUCKET, False),
        (BUCKET, None, True),
        (BUCKET, {**BUCKET, "bucket": "c"}, True),
        (BUCKET, {**BUCKET, "region": "eu-west-1"}, True),
        (BUCKET, {**BUCKET, "credentialsSecretRef": {"name": "rotated"}}, False),
        (BUCKET, {**BUCKET, "layout": "Orbax"}, False),
    ],
)
def test_the_place_of_a_bucket_is_fixed_and_its_credentials_are_not(before: Any, after: Any, is_edit: bool) -> None:
    old, new = job(checkpointStorage=before), job(checkpointStorage=after)
    assert paths(old, new) == (["checkpointConfig.checkpointStorage"] if is_edit else [])


def test_what_is_kept_leaves_the_rest_of_an_edit_as_it_is() -> None:
    old = job(mode="Image", checkpointImageRepo="r/a", checkpointStorage=BUCKET)
    storage = {**BUCKET, "bucket": "c", "credentialsSecretRef": {"name": "rotated"}}
    new = job(mode="Application", checkpointStorage=storage, verifyRestore=True)
    config = fixed.kept(fixed.edited(fixed.JOB, old, new), old, new).checkpoint_config
    assert (config.mode, config.checkpoint_image_repo, config.verify_restore) == ("Image", "r/a", True)
    assert config.checkpoint_storage is not None
    assert (config.checkpoint_storage.bucket, config.checkpoint_storage.region) == ("b", None)
    assert config.checkpoint_storage.credentials_secret_ref is not None


def test_what_never_worked_may_be_corrected() -> None:
    old, new = job(checkpointImageRepo="a b"), job(checkpointImageRepo="r/a")
    assert paths(old, new) == []
    assert paths(new, old) == ["checkpointConfig.checkpointImageRepo"]


def test_a_nested_field_is_kept() -> None:
    assert fixed.kept(fixed.VM, vm("old"), vm("new")).gcp.project == "old"
