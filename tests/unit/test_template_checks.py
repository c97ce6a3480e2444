"""What a jobTemplate may say and a SpotInstanceJob cannot keep."""

from typing import Any

import pytest

from activities.documents.template_checks import MOST_PROBLEMS, template_problems, template_warnings
from tests.workflows.documents import job_spec


def template(containers: tuple[str, ...] = ("train",), **job: Any) -> dict[str, Any]:
    pod = {"containers": [{"name": name, "image": "i"} for name in containers]}
    return {"spec": {"template": {"spec": pod}, **job}}


def policy(*rules: Any) -> dict[str, Any]:
    return template(podFailurePolicy={"rules": list(rules)})


def by_code(action: str) -> dict[str, Any]:
    return {"action": action, "onExitCodes": {"operator": "In", "values": [42]}}


def of(action: str, condition: str) -> dict[str, Any]:
    return {"action": action, "onPodConditions": [{"type": condition}]}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"jobTemplate": template(successPolicy={"rules": [{"succeededCount": 1}]})}, "spec.completionPolicy"),
        ({"jobTemplate": template(("a", "b")), "mainContainer": "c"}, "name one of 'a', 'b'"),
        ({"jobTemplate": policy(by_code("FailIndex"))}, "rules[0]: FailIndex ends one pod of several"),
        ({"jobTemplate": policy(by_code("FailJob"), of("FailJob", "DisruptionTarget"))}, "rules[1]: 'FailJob' on"),
        ({"jobTemplate": policy(of("Count", "DisruptionTarget"))}, "write Ignore"),
    ],
)
def test_problem_names_the_field_and_the_remedy(changes: dict[str, Any], says: str) -> None:
    [condition] = template_problems(job_spec(**changes))
    assert (condition.type, condition.status, condition.reason) == ("Accepted", "False", "InvalidJobTemplate")
    assert says in condition.message


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"jobTemplate": template(("a", "b")), "mainContainer": "b"},
        {"jobTemplate": policy(by_code("FailJob"), of("Ignore", "DisruptionTarget"), of("FailJob", "ConfigIssue"))},
        {"jobTemplate": policy("Ignore", None, {"action": 1}, {"onExitCodes": []})},
        {"jobTemplate": template(podFailurePolicy=[])},
        {"jobTemplate": {}},
        {"jobTemplate": {"spec": {"template": {"spec": {"containers": ["a", 1, None]}}}}},
    ],
)
def test_what_can_be_kept_is_no_problem(changes: dict[str, Any]) -> None:
    assert template_problems(job_spec(**changes)) == []


def test_a_template_with_thousands_of_wrong_rules_is_told_in_a_few_words() -> None:
    wrong = job_spec(jobTemplate=policy(*[by_code("FailIndex")] * 5000))
    assert len(template_problems(wrong)) == MOST_PROBLEMS


def test_several_containers_of_which_none_is_named_are_warned_of() -> None:
    [warning] = template_warnings(job_spec(jobTemplate=template(("train", "proxy"))))
    assert "'train', 'proxy'" in warning
    assert "name it in mainContainer" in warning
    assert template_warnings(job_spec(jobTemplate=template(("train", "proxy")), mainContainer="train")) == []
    assert template_warnings(job_spec()) == []
