"""Names, labels and ids."""

import re

import pytest

from api import names

JOB = "0a1b2c3d"
DNS_LABEL = re.compile(r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")


def test_job_id_is_8_hex_digits() -> None:
    assert re.fullmatch(r"[0-9a-f]{8}", names.job_id("cluster", "uid"))


@pytest.mark.parametrize("other", [("cluster", "another"), ("another", "uid"), ("clusteru", "id")])
def test_job_id_tells_objects_and_clusters_apart(other: tuple[str, str]) -> None:
    assert names.job_id("cluster", "uid") != names.job_id(*other)


def test_job_id_stays_what_it_was() -> None:
    assert names.job_id("cluster", "uid") == "e6cfdbfe"


def test_cluster_label_is_a_gce_label_value() -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", names.cluster_label("0b0e7a52-4fcb-4f7e-9d3e-0c2b6d1f5a11"))


def test_finalizer_is_one_a_job() -> None:
    assert names.job_finalizer(JOB) == f"training.dcnlab.com/{JOB}"
    assert names.job_id_of(names.job_finalizer(JOB)) == JOB
    assert [names.job_id_of(other) for other in (names.FINALIZER, JOB, f"x/{JOB}", names.LABEL_PROTECTED)] == [None] * 4


def test_workflow_ids() -> None:
    assert names.job_workflow_id("team", "llm") == "team/llm"
    assert names.vm_workflow_id(names.vm_key(JOB, 1, 2)) == f"vm:{JOB}-r1-v2"


def test_vm_name_leads_back_to_its_key() -> None:
    key = names.vm_key(JOB, 12, 345)
    assert names.vm_key_of(names.vm_name(key, 67)) == key


@pytest.mark.parametrize(
    "name",
    [
        "worker-1",
        f"outlast-{JOB}-r0-v1",
        f"outlast-{JOB}-r0-v1-t1-x",
        f"my-outlast-{JOB}-r0-v1-t1",
        "outlast-XYZ-r0-v1-t1",
        "",
    ],
)
def test_name_of_somebody_else_has_no_key(name: str) -> None:
    assert names.vm_key_of(name) is None


def test_vm_name_is_one_for_gce_and_kubernetes() -> None:
    assert DNS_LABEL.match(names.vm_name(names.vm_key(JOB, 15, 99999), 99999))


def test_request_id_is_the_same_for_every_try_of_one_call() -> None:
    assert names.request_id("vm", "zone-a") == names.request_id("vm", "zone-a")


@pytest.mark.parametrize("other", [("vm", "zone-b"), ("vm-2", "zone-a")])
def test_request_id_is_another_for_another_call(other: tuple[str, str]) -> None:
    assert names.request_id("vm", "zone-a") != names.request_id(*other)


def test_derived_names_fit_for_the_longest_name_of_a_job() -> None:
    name = "n" * 40
    assert len(names.replica_job_name(name, JOB, 15, 9999)) <= 63  # a Job's name becomes a label's value
    for derived in (
        names.checkpoint_name(name, JOB, 99999),
        names.pull_secret_name(name, JOB),
        names.log_name(name, JOB, 15),
    ):
        assert DNS_LABEL.match(derived)


def test_names_of_one_job_are_told_apart() -> None:
    made = [
        names.replica_job_name("llm", JOB, 0, 0),
        names.replica_job_name("llm", JOB, 0, 1),
        names.replica_job_name("llm", JOB, 1, 0),
        names.checkpoint_name("llm", JOB, 1),
        names.pull_secret_name("llm", JOB),
        names.log_name("llm", JOB, 0),
    ]
    assert len(set(made)) == len(made)


def test_tag_is_read_as_it_was_written() -> None:
    assert names.parse_image_tag(names.image_tag(JOB, 1234.9, 1700000000)) == (JOB, 1234, 1700000000)


def test_tags_sort_by_progress_and_not_by_time() -> None:
    tags = [names.image_tag(JOB, 1000, 1), names.image_tag(JOB, 999, 2)]
    assert max(tags) == tags[0]


def test_only_container_needs_no_suffix() -> None:
    assert names.container_tag("tag", "train", ["train"]) == "tag"


def test_each_of_several_containers_has_its_tag_and_all_lead_back() -> None:
    tag = names.image_tag(JOB, 5, 6)
    tags = [names.container_tag(tag, name, ["train", "log_1"]) for name in ("train", "log_1")]
    assert tags == [f"{tag}_train", f"{tag}_log_1"]
    assert {names.parse_image_tag(each) for each in tags} == {(JOB, 5, 6)}


@pytest.mark.parametrize(
    "tag", ["latest", "v1.2", f"{JOB}-p5-6", f"{JOB}-p000000000005", f"x{JOB}-p000000000005-6", ""]
)
def test_tag_of_somebody_else_is_not_read(tag: str) -> None:
    assert names.parse_image_tag(tag) is None


def test_labels_name_an_incarnation() -> None:
    assert names.incarnation_in({names.LABEL_REPLICA: "1", names.LABEL_INCARNATION: "20"}) == (1, 20)


@pytest.mark.parametrize("incarnation", ["", "first", "-1"])
def test_labels_that_a_person_wrote_may_name_none(incarnation: str) -> None:
    assert names.incarnation_in({names.LABEL_REPLICA: "1", names.LABEL_INCARNATION: incarnation}) is None
    assert names.incarnation_in({names.LABEL_INCARNATION: "1"}) is None
