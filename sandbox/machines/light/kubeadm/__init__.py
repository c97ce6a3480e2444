"""``kubeadm join`` and ``kubeadm reset`` for a light machine: the real protocol of a join, without the real binary.

Steps, messages and exit codes follow kubeadm:
https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/
"""

from sandbox.machines.light.kubeadm.command import kubeadm
from sandbox.machines.light.kubeadm.host import Host, KubeletService, install_containerd

__all__ = ["Host", "KubeletService", "install_containerd", "kubeadm"]
