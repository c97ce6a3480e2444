"""Reasons by which the kubelet and the scheduler say why a pod does not run yet."""

PULLS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
"""The pod has no image yet."""
CONFIG = "CreateContainerConfigError"
"""A ConfigMap or a Secret that the pod names does not exist, or lacks a key."""
GATED = "SchedulingGated"
"""Scheduling gates hold the pod."""
UNSCHEDULABLE = "Unschedulable"
"""The scheduler has looked at the pod and found no room for it."""
