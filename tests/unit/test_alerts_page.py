"""The rules of docs/alerts.md are those of deploy/components/monitoring, and name metrics and sections that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from api import metrics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "alerts.md").read_text()
MONITORING = ROOT / "deploy" / "components" / "monitoring"
(GROUP,) = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]["groups"]
RULES: list[dict[str, Any]] = GROUP["rules"]
SERIES = {name: metric for metric in metrics.ALL for name in metric.series}
OF_PROMETHEUS = {"instance", "le"}
OF_SDK = {"temporal_workflow_task_execution_failed": {"workflow_type", "failure_reason"}}

each_rule = pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])


def test_the_page_shows_the_rules_as_they_are_deployed() -> None:
    block = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    assert yaml.safe_load(block[1]) == {"groups": [GROUP]}
    assert "alerts.yaml" in yaml.safe_load((MONITORING / "kustomization.yaml").read_text())["resources"]


@each_rule
def test_a_rule_has_what_prometheus_asks_for_and_people_need(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["expr"].count("(") == rule["expr"].count(")")
    assert rule["labels"]["severity"] in {"critical", "warning"}
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles()}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert page == "docs/alerts.md"
    assert anchor in anchors


def titles() -> list[str]:
    return re.findall(r"^## (.*)$", PAGE, re.MULTILINE)


@each_rule
def test_a_rule_names_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    expression = rule["expr"]
    named = set(re.findall(r"\b(?:outlast|temporal)_\w+", expression))
    assert named <= set(SERIES) | set(OF_SDK)
    known = OF_PROMETHEUS.union(*(OF_SDK.get(name) or SERIES[name].labels for name in named))
    selected = {label for labels in re.findall(r"{(.*?)}", expression) for label in re.findall(r"(\w+)(?:=|!)", labels)}
    grouped = {label for labels in re.findall(r"\b(?:by|on) \((.*?)\)", expression) for label in labels.split(", ")}
    assert selected | grouped <= known
    said = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert said <= grouped


def test_each_section_is_the_runbook_of_a_rule() -> None:
    anchors = {rule["annotations"]["runbook"].partition("#")[2] for rule in RULES}
    assert len(titles()) == len(anchors)
