"""What the environment tells the processes."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.common import WorkerDeploymentVersion

from activities.kubernetes.daemons import DaemonNamespaces
from api.timings import Timings
from clients.settings import address, connections
from worker.settings import TIMING, VERSION, SweepSettings, from_environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_configuration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the Temporal CLI's configuration of whoever runs the tests."""
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "none.toml"))


def test_nothing_set_is_an_installation_in_a_cluster() -> None:
    settings = from_environment({})
    assert settings.namespace == "outlast-system"
    assert settings.daemons == DaemonNamespaces(gpu_operator="gpu-operator", agent="outlast-system")
    assert settings.gce_endpoint is None
    assert settings.ssh_port == 22
    assert settings.ssh_key_file is None
    assert settings.sweep == SweepSettings(timedelta(minutes=10), timedelta(minutes=10), False, None)
    assert settings.shared_secret_namespaces == frozenset()
    assert settings.timings == Timings()
    assert settings.connections.temporal_address == "localhost:7233"
    assert settings.connections.temporal_namespace == "default"
    assert settings.connections.deadline == 60
    assert settings.connections.metrics_address == ""
    assert settings.connections.health_address == ""
    assert settings.version is None


def test_everything_set_is_taken() -> None:
    settings = from_environment(
        {
            "OUTLAST_NAMESPACE": "elsewhere",
            "OUTLAST_GPU_OPERATOR_NAMESPACE": "nvidia-gpu-operator",
            "OUTLAST_AGENT_NAMESPACE": "outlast-agents",
            "OUTLAST_GCE_ENDPOINT": "http://127.0.0.1:1",
            "OUTLAST_SSH_PORT": "2222",
            "OUTLAST_SSH_KEY_FILE": "/keys/id",
            "OUTLAST_SWEEP_INTERVAL": "1m30s",
            "OUTLAST_SWEEP_GRACE": "1h",
            "OUTLAST_SWEEP_DRY_RUN": "true",
            "OUTLAST_SWEEP_IMAGES_AFTER": "720h",
            "OUTLAST_SHARED_SECRET_NAMESPACES": "vault, shared",
            "OUTLAST_TIMING_VERDICT_DELAY": "5",
            "OUTLAST_TIMING_RETRY": "0.5",
            "OUTLAST_CONNECT_DEADLINE": "7.5",
            "OUTLAST_METRICS_ADDRESS": "127.0.0.1:9090",
            "OUTLAST_HEALTH_ADDRESS": "127.0.0.1:8081",
            "TEMPORAL_DEPLOYMENT_NAME": "outlast",
            "TEMPORAL_WORKER_BUILD_ID": "0.2.0",
        }
    )
    assert settings.namespace == "elsewhere"
    assert settings.daemons == DaemonNamespaces(gpu_operator="nvidia-gpu-operator", agent="outlast-agents")
    assert settings.gce_endpoint == "http://127.0.0.1:1"
    assert settings.ssh_port == 2222
    assert settings.ssh_key_file == Path("/keys/id")
    assert settings.sweep == SweepSettings(timedelta(seconds=90), timedelta(hours=1), True, timedelta(days=30))
    assert settings.shared_secret_namespaces == {"vault", "shared"}
    assert settings.timings == Timings(verdict_delay=5, retry=0.5)
    assert settings.connections.deadline == 7.5
    assert settings.connections.metrics_address == "127.0.0.1:9090"
    assert settings.connections.health_address == "127.0.0.1:8081"
    assert settings.version == WorkerDeploymentVersion("outlast", "0.2.0")


def test_the_node_agent_is_where_outlast_is_unless_said_otherwise() -> None:
    assert from_environment({"OUTLAST_NAMESPACE": "elsewhere"}).daemons.agent == "elsewhere"


def test_temporal_is_found_by_the_variables_of_its_cli() -> None:
    found = connections({"TEMPORAL_ADDRESS": "temporal:7233", "TEMPORAL_NAMESPACE": "gpu"})
    assert (found.temporal_address, found.temporal_namespace) == ("temporal:7233", "gpu")


@pytest.mark.parametrize(
    "name",
    [
        "OUTLAST_NAMESPACE",
        "OUTLAST_GPU_OPERATOR_NAMESPACE",
        "OUTLAST_AGENT_NAMESPACE",
        "OUTLAST_GCE_ENDPOINT",
        "OUTLAST_SSH_PORT",
        "OUTLAST_SSH_KEY_FILE",
        "OUTLAST_SWEEP_INTERVAL",
        "OUTLAST_SWEEP_DRY_RUN",
        "OUTLAST_SWEEP_IMAGES_AFTER",
        "TEMPORAL_DEPLOYMENT_NAME",
        "TEMPORAL_WORKER_BUILD_ID",
    ],
)
def test_empty_is_as_good_as_unset(name: str) -> None:
    assert from_environment({name: ""}) == from_environment({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OUTLAST_NAMESPACE", "Outlast"),
        ("OUTLAST_GPU_OPERATOR_NAMESPACE", "../default"),
        ("OUTLAST_AGENT_NAMESPACE", "a.b"),
        ("OUTLAST_SSH_PORT", "ssh"),
        ("OUTLAST_SSH_PORT", "22.5"),
        ("OUTLAST_SWEEP_INTERVAL", "10"),
        ("OUTLAST_SWEEP_INTERVAL", "soon"),
        ("OUTLAST_SWEEP_DRY_RUN", "yes"),
        ("OUTLAST_SWEEP_IMAGES_AFTER", "never"),
        ("OUTLAST_CONNECT_DEADLINE", "a minute"),
        ("OUTLAST_METRICS_ADDRESS", "9090"),
        ("OUTLAST_METRICS_ADDRESS", ":9090"),
        ("OUTLAST_METRICS_ADDRESS", "127.0.0.1:http"),
        ("OUTLAST_TIMING_RETRY", "fast"),
        ("OUTLAST_TIMING_RETRY", ""),
    ],
)
def test_value_that_cannot_be_used_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name):
        from_environment({name: value})


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"TEMPORAL_DEPLOYMENT_NAME": "outlast"}, "TEMPORAL_WORKER_BUILD_ID is missing"),
        ({"TEMPORAL_WORKER_BUILD_ID": "1"}, "TEMPORAL_DEPLOYMENT_NAME is missing"),
        ({"TEMPORAL_DEPLOYMENT_NAME": "out.last", "TEMPORAL_WORKER_BUILD_ID": "1"}, "TEMPORAL_DEPLOYMENT_NAME='out"),
    ],
)
def test_half_a_version_is_none(environment: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_environment(environment)


def test_unknown_timing_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"OUTLAST_TIMING_VERDICT is unknown; known are .*VERDICT_DELAY"):
        from_environment({"OUTLAST_TIMING_VERDICT": "5"})


@pytest.mark.parametrize("text", ["127.0.0.1:0", "localhost:8080", "[::1]:8080", ""])
def test_address(text: str) -> None:
    assert address({"A": text}, "A") == text


def test_an_empty_list_shares_no_secret() -> None:
    assert from_environment({"OUTLAST_SHARED_SECRET_NAMESPACES": ""}).shared_secret_namespaces == frozenset()


def documented() -> dict[str, str]:
    """List the variables of the tables of docs/settings.md, with the defaults there."""
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]*) \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE)
    return {name: default for names, default in rows for name in re.findall(r"`(\w+)`", names)}


def test_the_page_on_settings_has_those_of_the_code_and_no_other() -> None:
    code = [
        path.read_text()
        for part in ("worker", "clients", "crd_bridge", "programs", "activities")
        for path in (ROOT / part).rglob("*.py")
    ]
    known = {*re.findall(r'"(OUTLAST_[A-Z_]*[A-Z])"', "".join(code)), *VERSION}
    timings = {f"{TIMING}{name.upper()}": f"{default:g}" for name, default in Timings()}
    found = documented()
    assert {name: found.get(name) for name in timings} == timings
    told = {name for name in found if name.startswith("OUTLAST_") or name in VERSION}
    assert told == known | set(timings)


def test_the_page_on_settings_has_their_defaults() -> None:
    defaults = {name: value for name, value in documented().items() if value != "unset"}
    told, unset = from_environment(defaults), from_environment({})
    for side in ("temporal_address", "temporal_namespace", "deadline"):
        assert getattr(told.connections, side) == getattr(unset.connections, side)
    assert replace(told, connections=unset.connections) == unset
