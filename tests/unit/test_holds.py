"""Who will suspend a job's Jobs, as far as can be told before there is one."""

from typing import Any

import pytest

from activities.holds import hold_of, labels_for_queues
from activities.signatures import Hold

Json = dict[str, Any]
QUEUE = "kueue.x-k8s.io/queue-name"
PLAIN: Json = {"spec": {}}


def stored(*, suspend: bool | None = None, **labels: str) -> Json:
    return {"metadata": {"labels": labels}, "spec": {"suspend": suspend}}


@pytest.mark.parametrize(
    ("template", "labels", "answer", "hold"),
    [
        (PLAIN, {}, stored(), None),
        (PLAIN, {}, None, None),
        ({"metadata": {"labels": {QUEUE: "a"}}, "spec": {}}, {}, None, Hold(by="queue a")),
        (PLAIN, {QUEUE: "b"}, None, Hold(by="queue b", labels={QUEUE: "b"})),
        ({"metadata": {"labels": {QUEUE: "a"}}}, {QUEUE: "b"}, None, Hold(by="queue a", labels={QUEUE: "b"})),
        ({"spec": {"suspend": True}}, {}, stored(), Hold(by="jobTemplate.spec.suspend")),
        ({"spec": {"suspend": False}}, {}, stored(), None),
        (PLAIN, {}, stored(suspend=True), Hold(by="an admission webhook")),
        (PLAIN, {}, stored(suspend=True, **{QUEUE: "default"}), Hold(by="queue default")),
    ],
)
def test_who_holds_it(template: Json, labels: dict[str, str], answer: Json | None, hold: Hold | None) -> None:
    assert hold_of(template, labels, answer) == hold


def test_only_labels_for_queues_count_for_the_jobs() -> None:
    own = {QUEUE: "a", "kueue.x-k8s.io/priority-class": "p", "team": "x", "kueue.x-k8s.io/job-uid": "u"}
    assert labels_for_queues(own) == {QUEUE: "a", "kueue.x-k8s.io/priority-class": "p"}
    assert labels_for_queues(None) == {}
