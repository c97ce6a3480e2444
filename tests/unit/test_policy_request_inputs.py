"""Signals in histories of earlier releases are read as those releases did, or a replay would ask for something else."""

from typing import Any

import pytest

from workflows.job.policy.request_inputs import Mistake, read, read_as_before
from workflows.job.state.requests import RequestName


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("resize", {"replicas": 2, "why": "quiet night"}),
        ("preemption_notice", {"replica": 0, "reason": "rehearsal"}),
        ("preemption_notice", {"replica": 0, "seconds": -5}),
    ],
)
def test_unknown_fields_were_ignored(name: RequestName, fields: dict[str, Any]) -> None:
    assert isinstance(read(name, [fields]), Mistake)
    before = read_as_before(name, [fields])
    assert before is not None
    assert (before.replicas, before.replica) == (fields.get("replicas"), fields.get("replica"))


@pytest.mark.parametrize("fields", [{"replicas": 99}, {"replica": 2}, "2", None])
def test_what_could_not_be_read_was_dropped(fields: Any) -> None:
    assert read_as_before("resize", [fields]) is None


def test_an_order_without_fields_was_carried_out_without_a_look_at_its_input() -> None:
    assert read_as_before("suspend", [{"now": True}]) is None
