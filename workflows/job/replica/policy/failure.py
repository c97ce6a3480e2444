"""What the failure of a training means for its job, as ``podFailurePolicy`` says."""

from dataclasses import dataclass
from typing import Literal

from api.failure_policy import ExitCodes, FailureRule
from api.views import ContainerEnd, PodView

Meaning = Literal["FailJob", "Ignore", "Count"]
"""The job has failed, the failure is not counted, or it counts as a restart. Without a matching rule it counts."""


@dataclass(frozen=True)
class Failure:
    """The meaning of a failure, and why it has that meaning."""

    meaning: Meaning
    why: str = ""


def judge_failure(rules: list[FailureRule], pod: PodView) -> Failure:
    """Decide by the first rule that matches, as the Job controller does."""
    for rule in rules:
        if (matched := _matches(rule, pod)) is not None:
            return Failure(
                _meaning(rule), f"{matched}, for which rule {rule.number} of podFailurePolicy says {rule.action}"
            )
    return Failure("Count")


def _meaning(rule: FailureRule) -> Meaning:
    match rule.action:
        case "Ignore" | "Count":
            return rule.action
        case "FailJob" | "FailIndex":  # a replica is the only index of its Job
            return "FailJob"
    return "Count"


def _matches(rule: FailureRule, pod: PodView) -> str | None:
    """Say what matches a rule; None if nothing does."""
    if rule.on_exit_codes is not None:
        end = next((end for end in _failed(pod) if _names(rule.on_exit_codes, end)), None)
        return None if end is None else f"container {end.name} exited {end.exit_code}"
    wanted = rule.on_pod_conditions or []
    found = next((each for each in wanted if pod.conditions.get(each.type) == each.status), None)
    return None if found is None else f"its pod has condition {found.type}={found.status}"


def _failed(pod: PodView) -> list[ContainerEnd]:
    return [end for end in pod.ends if end.exit_code]


def _names(codes: ExitCodes, end: ContainerEnd) -> bool:
    if codes.container_name not in (None, end.name):
        return False
    return (end.exit_code in codes.values) == (codes.operator == "In")
