"""Settings that the worker and the bridge share, and how both read the rest of their environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from temporalio.envconfig import ClientConfig, ClientConnectConfig

from clients.encryption import KEYS_FILE, Keys, read_keys

TRACES = "OUTLAST_TRACES"


@dataclass(frozen=True)
class Connections:
    """How to reach Temporal, how long (in seconds) to try both sides, and where to serve metrics and probes.

    An address is ``host:port``, or empty for none.
    """

    temporal: ClientConnectConfig
    deadline: float
    metrics_address: str
    health_address: str
    keys: Keys | None = None  # payloads are encrypted with these
    traces: str | None = None  # the collector of traces; empty: as OTEL_EXPORTER_OTLP_* say; None: there are none

    @property
    def temporal_address(self) -> str:
        """Give host:port of Temporal's frontend."""
        return self.temporal.get("target_host") or "localhost:7233"

    @property
    def temporal_namespace(self) -> str:
        """Give the Temporal namespace: one for each cluster."""
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
        traces=_collector(environment),
    )


def _collector(environment: Mapping[str, str]) -> str | None:
    """Read where traces go: our own variable wins over OpenTelemetry's."""
    ours = environment.get(TRACES)
    if ours and not ours.startswith(("http://", "https://")):
        raise ValueError(f"{TRACES}={ours!r} is no URL, for example http://collector:4318")
    return ours or ("" if environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") else None)


def address(environment: Mapping[str, str], name: str) -> str:
    """Read ``host:port`` from the variable ``name``; empty if it is unset.

    Raises:
        ValueError: it is neither.
    """
    found = environment.get(name, "")
    host, _, port = found.rpartition(":")
    if found and not (host and port.isdecimal()):
        raise ValueError(f"{name}={found!r} is not host:port, for example 127.0.0.1:8081")
    return found
