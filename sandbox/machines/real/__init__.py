"""Real machines: VMs made of a Linux kernel's namespaces, with kubelets, containers and checkpoints of memory."""

from sandbox.machines.real.machine import RealMachine, RealMachines, Site

__all__ = ["RealMachine", "RealMachines", "Site"]
