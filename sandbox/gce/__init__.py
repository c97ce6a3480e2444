"""An emulation of Compute Engine's REST API, as far as spot VMs need it: strict wherever the real service is strict."""

from sandbox.gce.emulator import GceEmulator
from sandbox.gce.errors import ApiError
from sandbox.gce.ledger import Event, Happening

__all__ = ["ApiError", "Event", "GceEmulator", "Happening"]
