"""Compute Engine, emulated: its REST API for the part of it that spot VMs need, strict where the real one is strict."""

from sandbox.gce.emulator import GceEmulator
from sandbox.gce.errors import ApiError
from sandbox.gce.ledger import Event, Happening

__all__ = ["ApiError", "Event", "GceEmulator", "Happening"]
