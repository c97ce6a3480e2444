"""The worker's settings, from its environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import ValidationError
from temporalio.common import WorkerDeploymentVersion

from activities.documents.identity import Grants, parse_grants
from activities.kubernetes.daemons import DaemonNamespaces
from activities.network.networks import Networks, networks
from api.duration import parse_duration
from api.formats import NAMESPACE
from api.timings import Timings
from clients.settings import Connections, connections
from worker.room import Room, cached_workflows, memory_limit

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
    namespace: str  # the installation's namespace
    daemons: DaemonNamespaces  # whose pods are believed to be the node agent's and the GPU operator's
    deployment: str  # the Kubernetes Deployment of this worker
    gce_endpoint: str | None  # another Compute Engine API than Google's
    ssh_port: int
    ssh_key_file: Path | None  # the installation's private key
    sweep: SweepSettings
    shared_secret_namespaces: frozenset[str]  # every job may name their Secrets
    grants: Grants  # who may use the worker's own cloud identity
    networks: Networks  # the networks to which URLs of specs may lead
    creates_per_second: float  # VMs created, over all workers of the cluster
    room: Room
    timings: Timings
    version: WorkerDeploymentVersion | None  # in the worker's deployment; None: without worker versioning


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        ValueError: a variable's value cannot be used; the message names it.
    """
    key = environment.get("OUTLAST_SSH_KEY_FILE")
    namespace = _namespace(environment, "OUTLAST_NAMESPACE", "outlast-system")
    return Settings(
        connections=connections(environment),
        namespace=namespace,
        daemons=DaemonNamespaces(
            gpu_operator=_namespace(environment, "OUTLAST_GPU_OPERATOR_NAMESPACE", "gpu-operator"),
            agent=_namespace(environment, "OUTLAST_AGENT_NAMESPACE", namespace),
        ),
        deployment=environment.get("OUTLAST_WORKER_DEPLOYMENT") or "outlast-worker",
        gce_endpoint=environment.get("OUTLAST_GCE_ENDPOINT") or None,
        ssh_port=_number(environment, "OUTLAST_SSH_PORT", 22),
        ssh_key_file=Path(key) if key else None,
        sweep=_sweep(environment),
        shared_secret_namespaces=_words(environment, "OUTLAST_SHARED_SECRET_NAMESPACES", ""),
        grants=parse_grants(environment.get("OUTLAST_IDENTITY_GRANTS", ""), namespace),
        networks=networks(environment),
        creates_per_second=_rate(environment, "OUTLAST_CREATES_PER_SECOND", 2),
        room=_room(environment),
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


def _room(environment: Mapping[str, str]) -> Room:
    return Room(
        prompt=_count(environment, "OUTLAST_ACTIVITIES", 100),
        long=_count(environment, "OUTLAST_LONG_ACTIVITIES", 1000),
        workflow_tasks=_count(environment, "OUTLAST_WORKFLOW_TASKS", 100, least=2),
        cached_workflows=_count(environment, "OUTLAST_CACHED_WORKFLOWS", cached_workflows(memory_limit())),
        sticky=_duration(environment, "OUTLAST_STICKY_TIMEOUT", "15s"),
    )


def _flag(environment: Mapping[str, str], name: str) -> bool:
    value = environment.get(name) or "false"
    if value not in ("true", "false"):
        raise ValueError(f"{name}={value!r} is neither true nor false")
    return value == "true"


def _words(environment: Mapping[str, str], name: str, default: str) -> frozenset[str]:
    """Split words between commas; a variable that is set and empty names nothing."""
    return frozenset(word.strip() for word in environment.get(name, default).split(",") if word.strip())


def _namespace(environment: Mapping[str, str], name: str, default: str) -> str:
    value = environment.get(name) or default
    if not NAMESPACE.fits(value):
        raise ValueError(f"{name}={value!r} is {NAMESPACE.remedy}")
    return value


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(environment.get(name) or default)
    except ValueError as error:
        raise ValueError(f"{name}={environment[name]!r} is not a whole number") from error


def _count(environment: Mapping[str, str], name: str, default: int, *, least: int = 1) -> int:
    count = _number(environment, name, default)
    if count < least:
        raise ValueError(f"{name}={environment[name]!r}: at least {least} is needed")
    return count


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
    """Read ``OUTLAST_TIMING_VERDICT_DELAY=5``: seconds, by the names of :class:`api.timings.Timings`."""
    given = {name.removeprefix(TIMING).lower(): value for name, value in environment.items() if name.startswith(TIMING)}
    unknown = sorted(set(given) - set(Timings.model_fields))
    if unknown:
        known = ", ".join(Timings.model_fields).upper()
        raise ValueError(f"{TIMING}{unknown[0].upper()} is unknown; known are {known}")
    try:
        timings = Timings.model_validate(given)
        for name in given:
            if getattr(timings, name) < 0 or (not getattr(timings, name) and name != "preempted_poll"):
                raise ValueError(f"{TIMING}{name.upper()}={given[name]!r}: more than 0 seconds are needed")
        return timings
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{TIMING}{str(first['loc'][0]).upper()}: {first['msg']}, in seconds") from error


def _version(environment: Mapping[str, str]) -> WorkerDeploymentVersion | None:
    """Read the version from the variables that Temporal's Worker Controller sets in a worker's pod."""
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
