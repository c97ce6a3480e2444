"""What both the worker and the bridge are told by their environment, and how they read the rest of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from temporalio.envconfig import ClientConfig, ClientConnectConfig

from clients.encryption import KEYS_FILE, Keys, read_keys


@dataclass(frozen=True)
class Connections:
    """How Temporal is reached, how long (in seconds) both sides are tried, where metrics and probes are served.

    An address is ``host:port``, empty for none.
    """

    temporal: ClientConnectConfig
    deadline: float
    metrics_address: str
    health_address: str
    keys: Keys | None = None  # by which payloads are encrypted

    @property
    def temporal_address(self) -> str:
        """host:port of Temporal's frontend."""
        return self.temporal.get("target_host") or "localhost:7233"

    @property
    def temporal_namespace(self) -> str:
        """The Temporal namespace: one a cluster."""
        return self.temporal.get("namespace") or "default"


def connections(environment: Mapping[str, str]) -> Connections:
    """Read ``OUTLAST_*``, and the variables and the configuration file of the Temporal CLI (``TEMPORAL_*``).

    Raises:
        ValueError: a variable cannot be understood; the message names it.
    """
    deadline = environment.get("OUTLAST_CONNECT_DEADLINE") or "60"
    try:
        seconds = float(deadline)
    except ValueError:
        raise ValueError(f"OUTLAST_CONNECT_DEADLINE={deadline!r} is not a number of seconds") from None
    return Connections(
        temporal=ClientConfig.load_client_connect_config(override_env_vars=dict(environment)),
        deadline=seconds,
        metrics_address=address(environment, "OUTLAST_METRICS_ADDRESS"),
        health_address=address(environment, "OUTLAST_HEALTH_ADDRESS"),
        keys=read_keys(Path(environment[KEYS_FILE])) if environment.get(KEYS_FILE) else None,
    )


def address(environment: Mapping[str, str], name: str) -> str:
    """``host:port`` from the variable ``name``; empty where it is unset.

    Raises:
        ValueError: it is neither.
    """
    found = environment.get(name, "")
    host, _, port = found.rpartition(":")
    if found and not (host and port.isdecimal()):
        raise ValueError(f"{name}={found!r} is not host:port, for example 127.0.0.1:8081")
    return found
