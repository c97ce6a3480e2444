"""How long the end of a pod is waited for."""

from typing import Any

import pytest

from api.spot_instance_job import SpotInstanceJobSpec
from api.timings import Timings
from workflows.job.policy.grace import MARGIN, with_grace


def spec(grace: Any, mode: str = "Application") -> SpotInstanceJobSpec:
    pod = {} if grace is None else {"terminationGracePeriodSeconds": grace}
    template = {"spec": {"template": {"spec": pod}}}
    config = {"mode": mode}
    return SpotInstanceJobSpec.model_validate(
        {"jobTemplate": template, "checkpointConfig": config, "spotInstanceVMRef": {"name": "vm"}}
    )


@pytest.mark.parametrize(
    ("given", "drain", "pod_stop", "preempted_gone"),
    [
        (spec(None), 60, 90, 180),
        (None, 60, 90, 180),
        (spec(10), 60, 90, 180),
        (spec("600"), 60, 90, 180),
        (spec(100), 100 + MARGIN, 100 + MARGIN, 180),
        (spec(600), 600 + MARGIN, 600 + MARGIN, 600 + MARGIN),
        (spec(600, mode="Image"), 600 + MARGIN, 90, 180),
    ],
    ids=["no grace", "no spec", "shorter than ours", "no number", "longer than some", "longer than all", "mode Image"],
)
def test_waits(given: SpotInstanceJobSpec | None, drain: float, pod_stop: float, preempted_gone: float) -> None:
    timings = with_grace(Timings(), given)
    assert (timings.drain, timings.pod_stop, timings.preempted_gone) == (drain, pod_stop, preempted_gone)
    changed = {"drain", "pod_stop", "preempted_gone"}
    assert timings.model_dump(exclude=changed) == Timings().model_dump(exclude=changed)
