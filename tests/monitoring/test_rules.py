"""Each alert fires when it should and not before, with the words that people read: evaluated by Prometheus itself."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
MONITORING = HERE.parents[1] / "deploy" / "components" / "monitoring"
CASES = HERE / "rules_test.yaml"
NEEDS = "promtool is not installed: on Debian, apt install prometheus"


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]["groups"]
    return found


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires, rests = set(), set()
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for told in case["alert_rule_test"]:
            (fires if told["exp_alerts"] else rests).add(told["alertname"])
    assert fires == rests == {rule["alert"] for group in rules() for rule in group["rules"]}


async def test_the_rules_say_what_they_should(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip(NEEDS)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": rules()}))
    (tmp_path / CASES.name).write_text(CASES.read_text())
    process = await asyncio.create_subprocess_exec(
        promtool, "test", "rules", CASES.name,
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
