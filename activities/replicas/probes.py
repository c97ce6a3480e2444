"""Make a container's probes tolerate that it does not answer while it is dumped. Pure.

A process that CRIU dumps answers nothing. A livenessProbe that loses patience meanwhile makes the kubelet kill the
training, because of a checkpoint that was to protect it; a startupProbe does the same to one that is dumped early.
"""

from copy import deepcopy
from math import ceil
from typing import Any

from api.spot_instance_job import SpotInstanceJobSpec

Json = dict[str, Any]

KINDS = ("livenessProbe", "startupProbe")
PERIOD, THRESHOLD = 10, 3
"""The values that Kubernetes uses if a probe leaves out ``periodSeconds`` and ``failureThreshold``."""


def bear_dumps(container: Json, seconds: float) -> list[str]:
    """Raise the ``failureThreshold`` of probes that fail within ``seconds``, and list what was changed, for people."""
    changed = []
    for kind in KINDS:
        probe = container.get(kind)
        if not isinstance(probe, dict):
            continue
        period, threshold = probe.get("periodSeconds") or PERIOD, probe.get("failureThreshold") or THRESHOLD
        if not _are_counts(period, threshold) or period * threshold >= seconds:
            continue  # the API server refuses what is no count
        container[kind] = probe | {"failureThreshold": ceil(seconds / period)}
        changed.append(f"{container.get('name')}.{kind}.failureThreshold {threshold} to {ceil(seconds / period)}")
    return changed


def warning(changed: list[str], seconds: float) -> str:
    """Tell people what was changed in their template."""
    return (
        f"raised {', '.join(changed)}: a training does not answer while it is checkpointed, and a probe that fails "
        f"before {seconds:.0f} s have passed would have it killed. spec.stallTimeout restarts one that hangs"
    )


def warnings_on(spec: SpotInstanceJobSpec, seconds: float) -> list[str]:
    """List what people should know before the first replica begins; ``seconds`` is how long a dump may take."""
    containers = deepcopy(spec.pod.get("containers"))
    if spec.checkpoint_config.mode != "Image" or not isinstance(containers, list):
        return []
    changed = [
        each for container in containers if isinstance(container, dict) for each in bear_dumps(container, seconds)
    ]
    return [f"jobTemplate: {warning(changed, seconds)}"] if changed else []


def _are_counts(*values: object) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in values)
