"""Each panel of the dashboards and each rule finds the series that Outlast serves, evaluated by Prometheus itself."""

import itertools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from api import metrics
from tests.monitoring.panels import compared, panels, rules
from tests.monitoring.test_rules import NEEDS

VALUES = {
    "state": ("Waiting", "Running", "Recovering"),
    "condition": ("CapacityAvailable", "RegistryReady"),
    "reason": ("NoCapacity", "PermissionDenied"),
    "phase": ("all", "machine", "training"),
}
"""Values of the labels that expressions select by; of the others there is one."""
OF_THE_SDK = (
    'temporal_workflow_task_execution_failed{instance="a", workflow_type="SpotVM", failure_reason="WorkflowError"}'
)
GROWS, STAYS = "0+1x60", "1x60"


def series() -> Iterator[dict[str, str]]:
    """Make an hour of each metric: counters and histograms grow, gauges stay."""
    yield {"series": OF_THE_SDK, "values": GROWS}
    for metric in metrics.ALL:
        for chosen in itertools.product(*(VALUES.get(label, ("some",)) for label in metric.labels)):
            labels = ['instance="a"', *(f'{k}="{v}"' for k, v in zip(metric.labels, chosen, strict=True))]
            values = STAYS if metric.kind == "gauge" else GROWS
            for name in metric.series:
                bounds = (*map(str, metric.buckets), "+Inf") if name.endswith("_bucket") else (None,)
                for bound in bounds:
                    within = ", ".join([*labels, *([f'le="{bound}"'] if bound else [])])
                    yield {"series": f"{name}{{{within}}}", "values": values}


def test_a_comparison_is_left_out() -> None:
    assert compared("max(x) > 3 or absent(x)") == "max(x)"
    assert compared("sum(x) == 0") == "sum(x)"
    assert compared("a - b > 0") == "a - b"


def test_each_expression_returns_data(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip(NEEDS)
    asked = [*panels(), *rules()]
    found = [{"alert": f"e{n}", "expr": f"count({each}) > 0"} for n, (_, each) in enumerate(asked)]
    fires = [{"alertname": each["alert"], "eval_time": "60m", "exp_alerts": [{}]} for each in found]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": found}]}))
    told = {"interval": "1m", "input_series": list(series()), "alert_rule_test": fires}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [told]}))
    ended = subprocess.run([promtool, "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True)
    names = {f"e{n}": where for n, (where, _) in enumerate(asked)}
    silent = [names[name] for name in names if f"alertname: {name}," in ended.stdout + ended.stderr]
    assert (ended.returncode, silent) == (0, []), ended.stdout + ended.stderr
