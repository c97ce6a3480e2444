"""What the bridge is told by its environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from temporalio.envconfig import ClientConfig, ClientConnectConfig


@dataclass(frozen=True)
class Settings:
    """Settings of one bridge. Durations in seconds; an address is ``host:port``, empty for none."""

    temporal: ClientConnectConfig
    metrics_address: str
    health_address: str
    connect_deadline: float

    @property
    def temporal_address(self) -> str:
        """host:port of Temporal's frontend."""
        return self.temporal.get("target_host") or "localhost:7233"

    @property
    def temporal_namespace(self) -> str:
        """The Temporal namespace of this cluster."""
        return self.temporal.get("namespace") or "default"


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read ``OUTLAST_*``, and the variables and the configuration file of the Temporal CLI (``TEMPORAL_*``).

    Raises:
        ValueError: a variable cannot be understood; the message names it.
    """
    deadline = environment.get("OUTLAST_CONNECT_DEADLINE", "60")
    try:
        seconds = float(deadline)
    except ValueError:
        raise ValueError(f"OUTLAST_CONNECT_DEADLINE={deadline!r} is not a number of seconds") from None
    return Settings(
        temporal=ClientConfig.load_client_connect_config(override_env_vars=dict(environment)),
        metrics_address=_address(environment, "OUTLAST_METRICS_ADDRESS", ""),
        health_address=_address(environment, "OUTLAST_HEALTH_ADDRESS", ""),
        connect_deadline=seconds,
    )


def _address(environment: Mapping[str, str], name: str, default: str) -> str:
    address = environment.get(name, default)
    host, _, port = address.rpartition(":")
    if address and not (host and port.isdecimal()):
        raise ValueError(f"{name}={address!r} is not host:port, for example 127.0.0.1:8081")
    return address
