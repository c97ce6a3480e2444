"""Empty machines, for tests that only look at GCE."""

from sandbox.machines import Machine, MachineSpec
from sandbox.machines.mishaps import Mishaps


class Box:
    """A machine with nothing but a host key."""

    def __init__(self, spec: MachineSpec) -> None:
        self.spec = spec
        self.guest_attributes: dict[str, str] = {"hostkeys/ssh-ed25519": "AAAAkey"}

    async def boot(self) -> None: ...

    def suffer(self, mishaps: Mishaps) -> None: ...

    async def notice(self) -> None: ...

    async def power_off(self, grace: float) -> None: ...

    def serial_output(self) -> str:
        return ""


class Boxes:
    """Makes empty machines."""

    def create(self, spec: MachineSpec) -> Machine:
        return Box(spec)
