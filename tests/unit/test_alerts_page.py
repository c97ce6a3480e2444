"""The rules of docs/alerts.md are YAML that Prometheus reads, and name metrics that exist."""

import re
from pathlib import Path
from typing import Any

import yaml

from api import metrics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "alerts.md").read_text()


def rules() -> list[dict[str, Any]]:
    block = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    (group,) = yaml.safe_load(block[1])["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_each_rule_has_what_prometheus_asks_for() -> None:
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "annotations"}
        assert {"alert", "expr"} <= set(rule)
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_the_metrics_exist() -> None:
    made = {name for metric in metrics.ALL for name in metric.series}
    named = {name for rule in rules() for name in re.findall(r"outlast_\w+", rule["expr"])}
    assert named <= made
    assert {"outlast_stuck_workflows", "outlast_sweep_timestamp_seconds"} <= named
