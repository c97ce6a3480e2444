"""Who will hold a job's Jobs, as far as can be known before there is one."""

from typing import Any

import pytest

from activities.preflight.holds import hold_of, labels_for_queues
from activities.signatures import Hold, PodVerdict

Json = dict[str, Any]
QUEUE = "kueue.x-k8s.io/queue-name"
PLAIN: Json = {"spec": {}}


def told(**more: Any) -> PodVerdict:
    return PodVerdict(admitted=True, **more)


@pytest.mark.parametrize(
    ("template", "labels", "verdict", "hold"),
    [
        (PLAIN, {}, told(), None),
        (PLAIN, {}, told(gates=["a/b"]), Hold(by="scheduling gate a/b", suspends=False)),
        ({"metadata": {"labels": {QUEUE: "a"}}, "spec": {}}, {}, told(), Hold(by="queue a")),
        (PLAIN, {QUEUE: "b"}, told(), Hold(by="queue b", labels={QUEUE: "b"})),
        ({"metadata": {"labels": {QUEUE: "a"}}}, {QUEUE: "b"}, told(), Hold(by="queue a", labels={QUEUE: "b"})),
        ({"spec": {"suspend": True}}, {}, told(), Hold(by="jobTemplate.spec.suspend")),
        (
            {"spec": {"template": {"spec": {"schedulingGates": [{"name": "example.com/quota"}]}}}},
            {},
            told(),
            Hold(by="scheduling gate example.com/quota", suspends=False),
        ),
        ({"spec": {"suspend": False}}, {}, told(), None),
        (PLAIN, {}, told(suspended=True), Hold(by="an admission webhook")),
        (PLAIN, {}, told(suspended=True, queue="default"), Hold(by="queue default")),
    ],
)
def test_who_holds_it(template: Json, labels: dict[str, str], verdict: PodVerdict, hold: Hold | None) -> None:
    assert hold_of(template, labels, verdict) == hold


def test_only_labels_for_queues_count_for_the_jobs() -> None:
    own = {QUEUE: "a", "kueue.x-k8s.io/priority-class": "p", "team": "x", "kueue.x-k8s.io/job-uid": "u"}
    assert labels_for_queues(own) == {QUEUE: "a", "kueue.x-k8s.io/priority-class": "p"}
    assert labels_for_queues(None) == {}
