"""How long a training may take to stop: its template says so, and no wait of ours may cut it short."""

from api.spot_instance_job import SpotInstanceJobSpec
from api.timings import Timings
from workflows.policy.bounds import bounded

MARGIN = 15.0  # seconds, for the kubelet to tell that a pod has stopped


def grace_seconds(spec: SpotInstanceJobSpec) -> float:
    """The template's ``terminationGracePeriodSeconds``; 0 where it leaves that to Kubernetes."""
    grace = spec.pod.get("terminationGracePeriodSeconds")
    return bounded(grace) if isinstance(grace, int | float) else 0.0


def with_grace(timings: Timings, spec: SpotInstanceJobSpec | None) -> Timings:
    """The waits for a pod's end, at least as long as its grace.

    In mode Application a notice is what makes the training save itself, so its machine, too, is left that long.
    """
    grace = grace_seconds(spec) if spec else 0.0
    if not grace or spec is None:
        return timings
    fields = ["drain"]
    if spec.checkpoint_config.mode == "Application":
        fields += ["pod_stop", "preempted_gone"]
    return timings.model_copy(update={field: max(getattr(timings, field), grace + MARGIN) for field in fields})
