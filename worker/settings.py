"""What the worker is told by its environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import ValidationError
from temporalio.common import WorkerDeploymentVersion

from activities.identity import Grants, parse_grants
from activities.networks import Networks, networks
from api.duration import parse_duration
from api.timings import Timings
from clients.settings import Connections, connections

TIMING = "OUTLAST_TIMING_"
VERSION = ("TEMPORAL_DEPLOYMENT_NAME", "TEMPORAL_WORKER_BUILD_ID")


@dataclass(frozen=True)
class SweepSettings:
    """How the Schedule sweeps."""

    interval: timedelta
    grace: timedelta
    dry_run: bool
    images_after: timedelta | None  # None: images of jobs that are gone are kept


@dataclass(frozen=True)
class Settings:
    """Settings of one worker."""

    connections: Connections
    namespace: str  # where Outlast is installed
    gce_endpoint: str | None  # another Compute Engine API than Google's
    ssh_port: int
    ssh_key_file: Path | None  # the installation's private key
    sweep: SweepSettings
    shared_secret_namespaces: frozenset[str]  # every job may name their Secrets
    grants: Grants  # who may use the worker's own cloud identity
    networks: Networks  # to which URLs of specs may lead
    creates_per_second: float  # of VMs, over all workers of the cluster
    timings: Timings
    version: WorkerDeploymentVersion | None  # of the worker's deployment; None: without worker versioning


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        ValueError: a variable's value cannot be used; the message names it.
    """
    key, namespace = environment.get("OUTLAST_SSH_KEY_FILE"), environment.get("OUTLAST_NAMESPACE", "outlast-system")
    return Settings(
        connections=connections(environment),
        namespace=namespace,
        gce_endpoint=environment.get("OUTLAST_GCE_ENDPOINT") or None,
        ssh_port=_number(environment, "OUTLAST_SSH_PORT", 22),
        ssh_key_file=Path(key) if key else None,
        sweep=_sweep(environment),
        shared_secret_namespaces=_words(environment, "OUTLAST_SHARED_SECRET_NAMESPACES", ""),
        grants=parse_grants(environment.get("OUTLAST_IDENTITY_GRANTS", ""), namespace),
        networks=networks(environment),
        creates_per_second=_rate(environment, "OUTLAST_CREATES_PER_SECOND", 2),
        timings=_timings(environment),
        version=_version(environment),
    )


def _sweep(environment: Mapping[str, str]) -> SweepSettings:
    images = environment.get("OUTLAST_SWEEP_IMAGES_AFTER")
    return SweepSettings(
        interval=_duration(environment, "OUTLAST_SWEEP_INTERVAL", "10m"),
        grace=_duration(environment, "OUTLAST_SWEEP_GRACE", "10m"),
        dry_run=_flag(environment, "OUTLAST_SWEEP_DRY_RUN"),
        images_after=_duration(environment, "OUTLAST_SWEEP_IMAGES_AFTER", "") if images else None,
    )


def _flag(environment: Mapping[str, str], name: str) -> bool:
    value = environment.get(name) or "false"
    if value not in ("true", "false"):
        raise ValueError(f"{name}={value!r} is neither true nor false")
    return value == "true"


def _words(environment: Mapping[str, str], name: str, default: str) -> frozenset[str]:
    """Words between commas; one that is set and empty names nothing."""
    return frozenset(word.strip() for word in environment.get(name, default).split(",") if word.strip())


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(environment.get(name) or default)
    except ValueError as error:
        raise ValueError(f"{name}={environment[name]!r} is not a whole number") from error


def _rate(environment: Mapping[str, str], name: str, default: float) -> float:
    try:
        rate = float(environment.get(name) or default)
    except ValueError as error:
        raise ValueError(f"{name}={environment[name]!r} is not a number") from error
    if not rate > 0:
        raise ValueError(f"{name}={environment[name]!r}: a rate above 0 is needed, or nothing would ever be created")
    return rate


def _duration(environment: Mapping[str, str], name: str, default: str) -> timedelta:
    try:
        return parse_duration(environment.get(name) or default)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _timings(environment: Mapping[str, str]) -> Timings:
    """``OUTLAST_TIMING_VERDICT_DELAY=5``: seconds, by the names of :class:`api.timings.Timings`."""
    given = {name.removeprefix(TIMING).lower(): value for name, value in environment.items() if name.startswith(TIMING)}
    unknown = sorted(set(given) - set(Timings.model_fields))
    if unknown:
        known = ", ".join(Timings.model_fields).upper()
        raise ValueError(f"{TIMING}{unknown[0].upper()} is unknown; known are {known}")
    try:
        return Timings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{TIMING}{str(first['loc'][0]).upper()}: {first['msg']}, in seconds") from error


def _version(environment: Mapping[str, str]) -> WorkerDeploymentVersion | None:
    """By the names under which Temporal's Worker Controller tells them to a worker's pod."""
    deployment, build = (environment.get(name) or None for name in VERSION)
    if deployment is None and build is None:
        return None
    for name, value in zip(VERSION, (deployment, build), strict=True):
        if value is None:
            raise ValueError(f"{name} is missing: set both of {' and '.join(VERSION)}, or none")
    assert deployment is not None
    assert build is not None
    if "." in deployment or ":" in deployment:
        raise ValueError(f"{VERSION[0]}={deployment!r}: Temporal takes no . or : there")
    return WorkerDeploymentVersion(deployment, build)
