"""A container's probes bear that it stands still while it is dumped. Pure.

A process that CRIU dumps answers nothing. A livenessProbe that loses patience meanwhile has the kubelet kill the
training, by a checkpoint that was to protect it; a startupProbe does the same to one that is dumped early.
"""

from copy import deepcopy
from math import ceil
from typing import Any

from api.spot_instance_job import SpotInstanceJobSpec

Json = dict[str, Any]

KINDS = ("livenessProbe", "startupProbe")
PERIOD, THRESHOLD = 10, 3
"""What Kubernetes takes ``periodSeconds`` and ``failureThreshold`` for if a probe leaves them out."""


def bear_dumps(container: Json, seconds: float) -> list[str]:
    """Raise the ``failureThreshold`` of probes that fail within ``seconds``; gives what was changed, for people."""
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


def remark(changed: list[str], seconds: float) -> str:
    """Tell people what was changed of their template."""
    return (
        f"raised {', '.join(changed)}: a training stands still while it is checkpointed, and a probe that fails before "
        f"{seconds:.0f} s are over would have it killed. spec.stallTimeout restarts one that hangs"
    )


def remarks_on(spec: SpotInstanceJobSpec, seconds: float) -> list[str]:
    """List what people should know before the first replica begins; dumps of ``seconds`` are borne."""
    containers = deepcopy(spec.pod.get("containers"))
    if spec.checkpoint_config.mode != "Image" or not isinstance(containers, list):
        return []
    changed = [
        each for container in containers if isinstance(container, dict) for each in bear_dumps(container, seconds)
    ]
    return [f"jobTemplate: {remark(changed, seconds)}"] if changed else []


def _are_counts(*values: object) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in values)
