"""What the worker is told by its environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import ValidationError
from temporalio.envconfig import ClientConfig, ClientConnectConfig

from api.duration import parse_duration
from api.timings import Timings

TIMING = "OUTLAST_TIMING_"


@dataclass(frozen=True)
class Settings:
    """Settings of one worker. Durations in seconds where they are numbers; an address is ``host:port``."""

    temporal: ClientConnectConfig
    namespace: str  # where Outlast is installed
    gce_endpoint: str | None  # another Compute Engine API than Google's
    ssh_port: int
    ssh_key_file: Path | None  # the installation's private key
    metrics_address: str
    connect_deadline: float
    sweep_interval: timedelta
    timings: Timings

    @property
    def temporal_address(self) -> str:
        """host:port of Temporal's frontend."""
        return self.temporal.get("target_host") or "localhost:7233"

    @property
    def temporal_namespace(self) -> str:
        """The Temporal namespace: one a cluster."""
        return self.temporal.get("namespace") or "default"


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        ValueError: a variable's value cannot be used; the message names it.
    """
    key = environ.get("OUTLAST_SSH_KEY_FILE")
    return Settings(
        temporal=ClientConfig.load_client_connect_config(override_env_vars=dict(environ)),
        namespace=environ.get("OUTLAST_NAMESPACE", "outlast-system"),
        gce_endpoint=environ.get("OUTLAST_GCE_ENDPOINT") or None,
        ssh_port=_number(environ, "OUTLAST_SSH_PORT", 22),
        ssh_key_file=Path(key) if key else None,
        metrics_address=environ.get("OUTLAST_METRICS_ADDRESS", ""),
        connect_deadline=_number(environ, "OUTLAST_CONNECT_DEADLINE", 60),
        sweep_interval=_duration(environ, "OUTLAST_SWEEP_INTERVAL", "10m"),
        timings=_timings(environ),
    )


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(environ.get(name) or default)
    except ValueError as error:
        raise ValueError(f"{name}={environ[name]!r} is not a whole number") from error


def _duration(environ: Mapping[str, str], name: str, default: str) -> timedelta:
    try:
        return parse_duration(environ.get(name) or default)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _timings(environ: Mapping[str, str]) -> Timings:
    """``OUTLAST_TIMING_VERDICT_DELAY=5``: seconds, by the names of :class:`api.timings.Timings`."""
    given = {name.removeprefix(TIMING).lower(): value for name, value in environ.items() if name.startswith(TIMING)}
    unknown = sorted(set(given) - set(Timings.model_fields))
    if unknown:
        known = ", ".join(Timings.model_fields).upper()
        raise ValueError(f"{TIMING}{unknown[0].upper()} is unknown; known are {known}")
    try:
        return Timings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{TIMING}{str(first['loc'][0]).upper()}: {first['msg']}, in seconds") from error
