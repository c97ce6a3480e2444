"""How long a training may take to stop, as its template says. No wait of ours may cut it short."""

from api.spot_instance_job import SpotInstanceJobSpec
from api.timings import Timings
from workflows.policy.bounds import bounded

MARGIN = 15.0
"""The seconds that the kubelet may need to report that a pod has stopped."""


def grace_seconds(spec: SpotInstanceJobSpec) -> float:
    """Return the template's ``terminationGracePeriodSeconds``; 0 if it does not set them."""
    grace = spec.pod.get("terminationGracePeriodSeconds")
    return bounded(grace) if isinstance(grace, int | float) else 0.0


def with_grace(timings: Timings, spec: SpotInstanceJobSpec | None) -> Timings:
    """Return timings whose waits for a pod's end are at least as long as its grace.

    In mode Application the training saves itself after a notice, so its machine stays that long as well.
    """
    grace = grace_seconds(spec) if spec else 0.0
    if not grace or spec is None:
        return timings
    fields = ["drain"]
    if spec.checkpoint_config.mode == "Application":
        fields += ["pod_stop", "preempted_gone"]
    return timings.model_copy(update={field: max(getattr(timings, field), grace + MARGIN) for field in fields})
