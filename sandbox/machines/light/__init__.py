"""Light machines: VMs without virtualisation. SSH, metadata and ``kubeadm join`` are real, the disk is a directory."""

from sandbox.machines.light.machine import LightMachine, LightMachines

__all__ = ["LightMachine", "LightMachines"]
