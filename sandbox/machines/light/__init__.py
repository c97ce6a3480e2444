"""Light machines: VMs without virtualisation. Real SSH, metadata and `kubeadm join`, over a directory as their disk."""

from sandbox.machines.light.machine import LightMachine, LightMachines

__all__ = ["LightMachine", "LightMachines"]
