"""The dashboards of deploy/components/monitoring show metrics and labels that exist, and each panel has its place."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from api import metrics

FOLDER = Path(__file__).parents[2] / "deploy" / "components" / "monitoring" / "dashboards"
PAGES = {file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))}
SERIES = {name: metric for metric in metrics.ALL for name in metric.series}
PANELS = [(page, panel) for page, content in PAGES.items() for panel in content["panels"]]

each_panel = pytest.mark.parametrize(
    "panel", [panel for _, panel in PANELS], ids=[f"{page}: {panel['title']}" for page, panel in PANELS]
)


def test_there_is_one_for_each_audience() -> None:
    assert set(PAGES) == {"operators", "teams"}


@each_panel
def test_a_panel_asks_for_what_exists(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        expression = target["expr"]
        assert expression.count("(") == expression.count(")")
        named = set(re.findall(r"\boutlast_\w+", expression))
        assert named
        assert named <= set(SERIES)
        known = {"instance", "le"}.union(*(SERIES[name].labels for name in named))
        selected = {label for some in re.findall(r"{(.*?)}", expression) for label in re.findall(r"(\w+)=", some)}
        grouped = {label for some in re.findall(r"\b(?:by|on) \((.*?)\)", expression) for label in some.split(", ")}
        assert selected | grouped <= known
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= grouped


@each_panel
def test_a_rate_is_of_what_only_grows(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        for name in re.findall(r"(?:rate|increase)\((\w+)", target["expr"]):
            assert SERIES[name].kind in {"counter", "histogram"}


@pytest.mark.parametrize("page", PAGES)
def test_no_panel_covers_another(page: str) -> None:
    taken = set[tuple[int, int]]()
    for panel in PAGES[page]["panels"]:
        place = panel["gridPos"]
        columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = {(column, row) for column in columns for row in rows}
        assert not cells & taken
        assert max(columns) < 24
        taken |= cells


def test_a_team_sees_only_what_it_chooses() -> None:
    for panel in PAGES["teams"]["panels"]:
        for target in panel["targets"]:
            selectors = re.findall(r"\boutlast_\w+({.*?})?", target["expr"])
            assert all('job_namespace=~"$team"' in selector for selector in selectors)
