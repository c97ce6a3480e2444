"""The small interface between the emulated cloud and a kind of VM: what GCE does to a machine and reads off it."""

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
    """Its loopback address, such as 127.64.1.2."""
    gpu_type: str | None
    gpu_count: int
    metadata: Mapping[str, str]
    """Instance metadata items (ssh-keys, startup-script, enable-guest-attributes, …); a live view of them."""
    service_account: str | None
    logins: Mapping[str, list[str]] = field(default_factory=dict)
    """SSH keys by user name, of OS Login; a live view of them. Real machines know nothing of it."""


class Machine(Protocol):
    """One VM. Every method may be called again, and while another is still waiting."""

    spec: MachineSpec

    @property
    def guest_attributes(self) -> Mapping[str, str]:
        """`hostkeys/ssh-ed25519` → base64 key: published once sshd runs, with metadata enable-guest-attributes=TRUE."""

    async def boot(self) -> None:
        """Power on; returns once it is powered on (sshd may come up later, as in reality)."""

    def suffer(self, mishaps: Mishaps) -> None:
        """From its next boot on, play these on it. The control surface asks it of light machines alone."""

    async def notice(self) -> None:
        """Metadata `instance/preempted` becomes TRUE."""

    async def power_off(self, grace: float) -> None:
        """ACPI soft off. Returns when the operating system is down or `grace` seconds are over: then all in it is dead.

        With `grace=0` it is dead at once.
        """

    def serial_output(self) -> str:
        """What serial port 1 has said since the machine was made."""


class MachineFactory(Protocol):
    """Makes machines of one kind."""

    def create(self, spec: MachineSpec) -> Machine:
        """A machine that is not powered on yet."""
