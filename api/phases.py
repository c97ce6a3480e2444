"""Phases of a replica's life, in their usual order."""

from typing import Literal

PENDING = "Pending"
"""It looks for a free GPU in the cluster."""
PREEMPTED = "Preempted"
"""It looks for a free GPU in the cluster, after it lost its machine."""
QUEUED = "Queued"
"""Its Job exists, and a queue or somebody else holds it; nothing is bought."""
PROVISIONING = "Provisioning"
"""A VM is being bought for it."""
JOINING = "Joining"
"""Its VM boots and joins the cluster."""
NODE_READY = "NodeReady"
"""It has a machine."""
RESTORING = "Restoring"
"""It waits for what it starts from, and for its predecessor to stop."""
STARTING = "Starting"
"""Its Job exists, and its pod does not run yet."""
RUNNING = "Running"
"""It trains."""
JUDGING = "Judging"
"""Its pod has ended, and the cause is being judged: the training itself, or its machine."""
RELEASING = "Releasing"
"""Its Job and its VM are being released."""
RELEASED = "Released"
"""It has nothing left."""
SUCCEEDED = "Succeeded"
"""It has finished the training."""
FAILED = "Failed"
"""It has failed for good."""

Phase = Literal[
    "Pending",
    "Preempted",
    "Queued",
    "Provisioning",
    "Joining",
    "NodeReady",
    "Restoring",
    "Starting",
    "Running",
    "Judging",
    "Releasing",
    "Released",
    "Succeeded",
    "Failed",
]
TERMINAL: frozenset[Phase] = frozenset({"Released", "Succeeded", "Failed"})
"""Phases that a replica does not leave by itself."""
