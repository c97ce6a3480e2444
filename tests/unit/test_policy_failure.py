"""What the failure of a training means by podFailurePolicy."""

from typing import Any

import pytest

from api.failure_policy import failure_rules
from api.views import ContainerEnd
from tests.unit.policy import pod
from workflows.job.replica.policy.failure import judge_failure


def codes(action: str, *values: int, operator: str = "In", container: str | None = None) -> dict[str, Any]:
    named = {"containerName": container} if container else {}
    return {"action": action, "onExitCodes": {"operator": operator, "values": list(values), **named}}


def condition(action: str, kind: str, **status: str) -> dict[str, Any]:
    return {"action": action, "onPodConditions": [{"type": "Other"}, {"type": kind, **status}]}


def judged(*rules: Any, conditions: dict[str, str] | None = None, **ends: int) -> tuple[str, str]:
    containers = [ContainerEnd(name=name, exit_code=code) for name, code in ends.items()]
    found = judge_failure(
        failure_rules({"podFailurePolicy": {"rules": list(rules)}}),
        pod(phase="Failed", ends=containers, conditions=conditions or {}),
    )
    return found.meaning, found.why


@pytest.mark.parametrize(
    ("rule", "ends", "meaning"),
    [
        (codes("FailJob", 42), {"train": 42}, "FailJob"),
        (codes("FailJob", 42), {"train": 1}, "Count"),
        (codes("FailJob", 42, container="proxy"), {"train": 42}, "Count"),
        (codes("FailJob", 42, container="proxy"), {"train": 1, "proxy": 42}, "FailJob"),
        (codes("Ignore", 1, 2, operator="NotIn"), {"train": 3}, "Ignore"),
        (codes("Ignore", 1, 2, operator="NotIn"), {"train": 2}, "Count"),
        (codes("Ignore", 1, 2, operator="NotIn"), {"train": 2, "sidecar": 0}, "Count"),
        (codes("Count", 42), {"train": 42}, "Count"),
        (codes("FailIndex", 42), {"train": 42}, "FailJob"),
        (codes("OfALaterRelease", 42), {"train": 42}, "Count"),
    ],
)
def test_exit_codes(rule: dict[str, Any], ends: dict[str, int], meaning: str) -> None:
    assert judged(rule, **ends)[0] == meaning


@pytest.mark.parametrize(
    ("rule", "conditions", "meaning"),
    [
        (condition("FailJob", "ConfigIssue"), {"ConfigIssue": "True"}, "FailJob"),
        (condition("FailJob", "ConfigIssue"), {"ConfigIssue": "False"}, "Count"),
        (condition("Ignore", "Ready", status="False"), {"Ready": "False"}, "Ignore"),
        (condition("Ignore", "Ready"), {}, "Count"),
    ],
)
def test_conditions(rule: dict[str, Any], conditions: dict[str, str], meaning: str) -> None:
    assert judged(rule, conditions=conditions, train=1)[0] == meaning


def test_the_first_rule_that_matches_decides_and_is_named() -> None:
    meaning, why = judged(codes("Ignore", 7), codes("Count", 42), codes("FailJob", 42), train=42)
    assert (meaning, why) == ("Count", "container train exited 42, for which rule 2 of podFailurePolicy says Count")


@pytest.mark.parametrize("rules", [(), ("x", None, 3), ({"action": "FailJob"},), ({"onExitCodes": {}},)])
def test_what_is_no_rule_matches_nothing(rules: tuple[Any, ...]) -> None:
    assert judged(*rules, train=42)[0] == "Count"


@pytest.mark.parametrize("policy", [None, [], "x", {}, {"rules": None}, {"rules": "x"}])
def test_what_is_no_policy_has_no_rules(policy: Any) -> None:
    assert failure_rules({"podFailurePolicy": policy}) == []
