"""A small kubelet that runs light machines' pods, and dies with its machine."""

from sandbox.machines.light.kubelet.config import KubeletConfig
from sandbox.machines.light.kubelet.kubelet import Kubelet

__all__ = ["Kubelet", "KubeletConfig"]
