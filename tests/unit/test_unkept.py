"""Fields of a template without effect: the table is what the Job's builder does, and harmless ones are not reported."""

from typing import Any

import pytest

from activities.replicas import job_builder
from activities.replicas.job_builder import build_job
from activities.signatures import CreateReplica, JobRef
from api.unkept import QUEUE, UNKEPT, Unkept, unkept

Json = dict[str, Any]

JOB = JobRef(namespace="team", name="resnet", uid="u-1", job_id="0a1b2c3d")
FIELDS = [each for each in UNKEPT if isinstance(each, Unkept)]
HEEDED = {"activeDeadlineSeconds", "podFailurePolicy", "successPolicy", "completionMode"}
"""Fields that are taken out of the Job because Outlast itself heeds or refuses them."""
OTHERS: dict[str, Any] = {
    "spec.suspend": True,
    "spec.parallelism": 0,
    "spec.completions": 0,
    "spec.manualSelector": True,
    "spec.selector": {"matchLabels": {"a": "b"}},
    "metadata.finalizers": ["else.org/a"],
    "metadata.ownerReferences": [{"kind": "Workflow"}],
}


def template() -> Json:
    return {"metadata": {}, "spec": {"template": {"spec": {"containers": [{"name": "train", "image": "train:1"}]}}}}


def with_(path: str, value: Any, made: Json | None = None) -> Json:
    made = made or template()
    *parents, field = path.split(".")
    at = made
    for step in parents:
        at = at[step]
    at[field] = value
    return made


def read(job: Json, path: str) -> Any:
    for step in path.split("."):
        job = job.get(step, {}) if isinstance(job, dict) else {}
    return job


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.path)
def test_what_is_told_is_what_the_builder_does_not_keep(field: Unkept) -> None:
    value = OTHERS.get(field.path, "something")
    made = with_(field.path, value)
    assert unkept(made, {}) == [field.message]
    request = CreateReplica(job=JOB, job_template=made, replica=0, incarnation=0, nodes=["n"], bought=True)
    assert read(build_job(request), field.path) != value


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.path)
def test_what_asks_for_nothing_else_is_not_told(field: Unkept) -> None:
    assert unkept(template(), {}) == []
    assert unkept(with_(field.path, None), {}) == []
    for value in field.harmless:
        assert unkept(with_(field.path, value), {}) == []


def test_nothing_is_taken_out_in_silence() -> None:
    told = {field.path.removeprefix("spec.") for field in FIELDS}
    assert set(job_builder._TAKEN_OUT) - told - HEEDED == set()


@pytest.mark.parametrize("labels_of", ["the SpotInstanceJob", "its template"])
def test_a_queue_may_suspend(labels_of: str) -> None:
    made, label = with_("spec.suspend", True), {QUEUE: "research"}
    if labels_of == "its template":
        made["metadata"]["labels"] = label
    assert unkept(made, label if labels_of == "the SpotInstanceJob" else {}) == []
    assert len(unkept(with_("spec.managedBy", "kueue.x-k8s.io/multikueue", made), label)) == 1


def test_a_toleration_of_a_lost_node_that_ends_is_told() -> None:
    lost = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 60}
    other = {"key": "maintenance", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}
    at = "spec.template.spec.tolerations"
    assert unkept(with_(at, [other]), {}) == []
    (told,) = unkept(with_(at, [other, lost]), {})
    assert "tolerationSeconds" in told
    assert unkept(with_(at, [{"operator": "Exists", "tolerationSeconds": 60}]), {}) == [told]


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"spec": None},
        {"spec": {"template": "a"}},
        {"metadata": "a", "spec": {"template": {"spec": {"tolerations": "x"}}}},
        {"spec": {"template": {"spec": {"tolerations": [1, {"tolerationSeconds": 1, "key": 7}]}}}},
    ],
)
def test_no_template_is_too_strange_to_be_looked_at(made: Json) -> None:
    assert unkept(made, {}) == []


@pytest.mark.parametrize("field", ["spec.parallelism", "spec.completions"])
def test_the_number_of_pods_that_train_together_is_kept(field: str) -> None:
    assert unkept(with_(field, 4), {}) == []
