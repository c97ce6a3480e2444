"""The small interface between the emulated cloud and a kind of VM: what GCE does to a machine and reads from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sandbox.machines.mishaps import Mishaps


@dataclass(frozen=True)
class MachineSpec:
    """What a machine is made from."""

    name: str
    project: str
    zone: str
    machine_type: str
    instance_id: int
    address: str
    """The machine's address; a light machine's is on loopback, such as 127.64.1.2."""
    gpu_type: str | None
    gpu_count: int
    metadata: Mapping[str, str]
    """The instance's metadata items (ssh-keys, startup-script, enable-guest-attributes, …), as they are at any time."""
    service_account: str | None
    logins: Mapping[str, list[str]] = field(default_factory=dict)
    """The SSH keys of OS Login by user name, as they are at any time. Real machines do not support OS Login."""


class Machine(Protocol):
    """One VM. Every method may be called again, even while another one still waits."""

    spec: MachineSpec

    @property
    def guest_attributes(self) -> Mapping[str, str]:
        """The guest attributes: with enable-guest-attributes=TRUE, sshd's host key is published as ``hostkeys/…``."""

    async def boot(self) -> None:
        """Power on; returns at once, although sshd may come up later, as in reality."""

    def suffer(self, mishaps: Mishaps) -> None:
        """Play these mishaps on it from its next boot on. The control surface asks this only of light machines."""

    async def notice(self) -> None:
        """Turn the metadata item ``instance/preempted`` to TRUE."""

    async def power_off(self, grace: float) -> None:
        """Press the power button (ACPI soft off); returns once everything in the machine is dead.

        The operating system has ``grace`` seconds to shut down. With ``grace=0`` everything is dead at once.
        """

    def serial_output(self) -> str:
        """Return what serial port 1 has written since the machine was made."""


class MachineFactory(Protocol):
    """Makes machines of one kind."""

    def create(self, spec: MachineSpec) -> Machine:
        """Make a machine that is not powered on yet."""
