"""Conditions by which other programs report a Node's health, and what Outlast makes of them.

Two kinds matter. Some mean that nothing on the machine can continue: a replica leaves it, as after a notice. Others
mean that it is not to be trusted with a new start: a training that runs there continues, but nothing new is started.
Everything else is left to those who set it. The pressures (``MemoryPressure``, ``DiskPressure``, ``PIDPressure``) come
and go, and the kubelet and the scheduler act on them themselves.
"""

from collections.abc import Mapping

BROKEN: Mapping[str, str] = {
    "KernelDeadlock": "True",  # node-problem-detector
    "ReadonlyFilesystem": "True",  # node-problem-detector: neither a log nor a checkpoint can be written
    "FilesystemCorruptionProblem": "True",  # AKS
    "CperHardwareErrorFatal": "True",  # GKE: the firmware reported a fatal error of the hardware
    "GPUMissing": "True",  # AKS: fewer GPUs than the machine type has
    "AcceleratedHardwareReady": "False",  # EKS: a fatal error of a GPU; its auto repair reboots the machine
    "NebiusGPUError": "True",
    "NebiusBootDiskIOError": "True",
}
"""Type → status of the conditions after which a replica leaves the machine."""

UNFIT: Mapping[str, str] = {
    "FrequentKubeletRestart": "True",  # node-problem-detector, like those that follow
    "FrequentContainerdRestart": "True",
    "FrequentDockerRestart": "True",
    "FrequentUnregisterNetDevice": "True",
    "CorruptDockerOverlay2": "True",
    "KubeletUnhealthy": "True",
    "ContainerRuntimeUnhealthy": "True",
    "KubeletProblem": "True",  # AKS
    "ContainerRuntimeProblem": "True",  # AKS
    "XIDErrors": "True",  # AKS: also set for XIDs that a program causes
    "NVLinkStatusInactive": "True",  # AKS
    "KernelReady": "False",  # EKS, like those that follow
    "StorageReady": "False",
    "NetworkingReady": "False",
    "ContainerRuntimeReady": "False",
}
"""Type → status of the conditions because of which nothing is started on the machine."""
