"""What the bridge is told by its environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from clients.settings import Connections, address, connections


@dataclass(frozen=True)
class Settings:
    """Settings of one bridge. An address is ``host:port``, empty for none."""

    connections: Connections
    health_address: str


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        ValueError: a variable cannot be understood; the message names it.
    """
    return Settings(connections=connections(environment), health_address=address(environment, "OUTLAST_HEALTH_ADDRESS"))
