"""The acts of reading a job, each by itself: what is read of an object, and what is written onto what a job names."""

from typing import Any

import pytest

from activities.documents.finalizers import _with, _without
from activities.documents.findings import Findings, together
from activities.documents.reader import job_spec_of, open_request, vm_spec_of
from activities.documents.release import _by_name
from activities.signatures import JobRef, ReleaseFinalizers
from api import names
from api.common import SecretReference, not_accepted
from tests.hostile import HOSTILE

Json = dict[str, Any]
MINE, OTHERS, FOREIGN = names.job_finalizer("0a1b2c3d"), names.job_finalizer("ffffffff"), "example.com/mine"
JOB = JobRef(namespace="team", name="bert", uid="u", job_id="0a1b2c3d")
SPEC = {
    "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}},
    "checkpointConfig": {"checkpointImageRepo": "gcr.io/p/r"},
    "spotInstanceVMRef": {"name": "spot"},
}
VM = {"vmImage": "i", "gcp": {"project": "p", "zone": "us-central1-a", "machineType": "n1-standard-4"}}


# --- read


def reasons(problems: list[Any]) -> list[str]:
    return [problem.reason for problem in problems]


@pytest.mark.parametrize(
    ("spec", "problems"),
    [
        (SPEC, []),
        ({}, ["InvalidSpec"]),
        (None, ["InvalidSpec"]),
        ({**SPEC, "replicas": "many"}, ["InvalidSpec"]),
        ({**SPEC, "more": "x" * 600_000}, ["TooLarge"]),
    ],
    ids=["good", "empty", "none", "wrong", "large"],
)
def test_a_jobs_spec_is_read_or_says_why_not(spec: Any, problems: list[str]) -> None:
    read = job_spec_of({"metadata": {}, "spec": spec})
    assert (read.spec is None, reasons(read.problems)) == (bool(problems), problems)


@pytest.mark.parametrize(
    ("change", "readable", "problems"),
    [
        ({}, True, []),
        ({"gcp": {**VM["gcp"], "diskType": "a/../b"}}, True, ["InvalidSpec"]),  # type: ignore[dict-item]
        ({"kubeadmJoinConfig": {"caCertHash": "sha256:abc..."}}, True, ["InvalidSpec"]),
        ({"gcp": None}, False, ["InvalidSpec"]),
        ({"startupScript": "#" * 600_000}, False, ["TooLarge"]),
    ],
    ids=["good", "format", "placeholder", "wrong", "large"],
)
def test_a_vms_spec_is_read_or_says_why_not(change: Json, readable: bool, problems: list[str]) -> None:
    read = vm_spec_of({"metadata": {"name": "spot"}, "spec": {**VM, **change}})
    assert (read.spec is not None, reasons(read.problems)) == (readable, problems)
    assert all("SpotInstanceVM spot" in problem.message for problem in read.problems)


@pytest.mark.parametrize(
    ("written", "status", "is_open"),
    [
        (None, None, False),
        ("a 1", None, True),
        ("a 1", {"value": "a 1", "state": "Accepted"}, True),
        ("a 1", {"value": "a 1", "state": "Done"}, False),
        ("a 1", {"value": "a 1", "state": "Refused"}, False),
        ("a 2", {"value": "a 1", "state": "Done"}, True),
    ],
)
def test_a_request_is_open_until_it_is_answered(written: str | None, status: Json | None, is_open: bool) -> None:
    annotations = {names.ANNOTATION_REQUEST: written} if written else {}
    found = {"metadata": {"annotations": annotations}, "status": {"request": status} if status else {}}
    assert open_request(found) == (written if is_open else None)


# --- protect


def protected(*finalizers: str, **metadata: Any) -> Json:
    labels = {each: "" for each in finalizers if names.job_id_of(each)}
    return {"metadata": {"finalizers": list(finalizers), "labels": labels, **metadata}}


def test_all_who_are_missing_are_added_at_once() -> None:
    patch = _with(protected(FOREIGN, MINE), {MINE: "team/bert", OTHERS: "team/gpt"})
    assert patch == {
        "metadata": {
            "finalizers": [FOREIGN, MINE, OTHERS],
            "labels": {names.LABEL_PROTECTED: "", OTHERS: ""},
            "annotations": {OTHERS: "team/gpt"},
        }
    }


def test_nothing_is_added_to_what_has_it_or_is_being_deleted() -> None:
    assert _with(protected(MINE), {MINE: "team/bert"}) is None
    assert _with(protected(deletionTimestamp="2026-01-01T00:00:00Z"), {MINE: "team/bert"}) is None


def test_who_is_released_takes_nobody_along() -> None:
    patch = _without(protected(FOREIGN, OTHERS, MINE), {MINE})
    assert patch == {"metadata": {"finalizers": [FOREIGN, OTHERS], "labels": {MINE: None}, "annotations": {MINE: None}}}


def test_the_last_one_takes_the_common_label_along() -> None:
    patch = _without(protected(FOREIGN, OTHERS, MINE), {MINE, OTHERS})
    assert patch is not None
    assert patch["metadata"]["finalizers"] == [FOREIGN]
    assert patch["metadata"]["labels"] == {MINE: None, OTHERS: None, names.LABEL_PROTECTED: None}


def test_a_label_that_was_left_is_removed_too() -> None:
    assert _without({"metadata": {"labels": {MINE: ""}}}, {MINE}) is not None


@pytest.mark.parametrize("found", [protected(OTHERS, FOREIGN), {"metadata": {}}])
def test_nothing_is_removed_from_what_has_none_of_them(found: Json) -> None:
    assert _without(found, {MINE}) is None


# --- release


@pytest.mark.parametrize("name", [name for name in HOSTILE if len(name) <= 253])  # longer ones are not even read
def test_no_name_leads_a_release_elsewhere(name: str) -> None:
    secrets = [SecretReference(name=name), SecretReference(name="a", namespace=name)]
    assert _by_name(ReleaseFinalizers(job=JOB, vm_name=name, secrets=secrets)) == set()


def test_what_a_job_names_is_released() -> None:
    secrets = [SecretReference(name="a"), SecretReference(name="b", namespace="other")]
    vm = f"/apis/{names.API_VERSION}/namespaces/team/spotinstancevms/spot"
    own, shared = "/api/v1/namespaces/team/secrets/a", "/api/v1/namespaces/other/secrets/b"
    assert _by_name(ReleaseFinalizers(job=JOB, vm_name="spot", secrets=secrets)) == {vm, own, shared}


# --- what all of them found


def test_findings_are_told_in_the_order_of_the_checks() -> None:
    first, second = not_accepted("First", "a"), not_accepted("Second", "b")
    found = together([Findings([first], ["x"]), Findings(), Findings([second], ["y"])])
    assert (found.problems, found.warnings) == ([first, second], ["x", "y"])
    assert together([]) == Findings()
