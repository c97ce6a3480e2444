"""The table of metrics is true: each is made somewhere, nothing else is, and Prometheus is told their buckets."""

import re
import urllib.request
from pathlib import Path

from api import metrics
from clients.settings import Connections
from clients.temporal import runtime
from sandbox.claims import free_port

ROOT = Path(__file__).parents[2]
PROGRAM = ("activities", "clients", "crd_bridge", "programs", "worker", "workflows")
SOURCES = [path.read_text() for folder in PROGRAM for path in (ROOT / folder).rglob("*.py")]


def test_each_is_made_and_nothing_else_is() -> None:
    made = {name for text in SOURCES for name in re.findall(r"\bmetrics\.([A-Z_]+)\b", text)}
    assert made == {name for name, value in vars(metrics).items() if isinstance(value, metrics.Metric)} | {"BUCKETS"}
    names_it = re.compile(r"\.create_(?:gauge|counter|histogram)\w*\([^*].*")
    by_hand = [call for text in SOURCES for call in names_it.findall(text)]
    assert by_hand == []


def test_the_page_has_all() -> None:
    constants = [value for value in vars(metrics).values() if isinstance(value, metrics.Metric)]
    assert list(metrics.ALL) == constants
    assert len({metric.name for metric in constants}) == len(constants)


def test_names_are_those_that_prometheus_asks_for() -> None:
    for metric in metrics.ALL:
        assert re.fullmatch(r"outlast_[a-z_]+", metric.name)
        assert (metric.kind == "histogram") == bool(metric.buckets)
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert list(metric.labels) == sorted(metric.labels)
        assert not {"job", "replica", "vm", "namespace", "instance"} & set(metric.labels)
        if metric.kind == "histogram":
            assert metric.name.endswith(("_seconds", "_usd"))


def test_a_histogram_is_served_in_seconds_with_its_own_buckets() -> None:
    address = f"127.0.0.1:{free_port()}"
    serves = runtime(Connections(temporal={}, deadline=1, metrics_address=address, health_address=""))
    meter = serves.metric_meter
    meter.create_histogram_float(*metrics.RECOVERY.made_by).record(7.5, {"job_namespace": "team", "phase": "all"})
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
        served = answer.read().decode()
    bounds = [float(bound) for bound in re.findall(r'outlast_recovery_seconds_bucket{.*,le="([0-9.]+)"}', served)]
    assert bounds == list(metrics.RECOVERY.buckets)
    assert re.search(r'outlast_recovery_seconds_bucket{.*,le="5"} 0\n', served)
    assert re.search(r'outlast_recovery_seconds_bucket{.*,le="10"} 1\n', served)
    assert re.search(r"outlast_recovery_seconds_sum{.*} 7.5\n", served)
