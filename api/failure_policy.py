"""``podFailurePolicy`` of a ``jobTemplate``: what a pod's failure means, by its exit codes and conditions."""

from typing import Any

from pydantic import Field, ValidationError

from api.model import Model

DISRUPTION = "DisruptionTarget"
"""Condition of a pod that something ends: an eviction, a drain, a preemption."""


class ExitCodes(Model):
    """Matches a container that exited with one of these codes (``In``), or with any other but 0 (``NotIn``)."""

    container_name: str | None = None
    operator: str = "In"
    values: list[int] = []


class PodCondition(Model):
    """Matches a pod with this condition."""

    type: str
    status: str = "True"


class FailureRule(Model):
    """One rule; the first that matches says what the failure means."""

    number: int = Field(exclude=True, description="counted from 1, as people count")
    action: str
    on_exit_codes: ExitCodes | None = None
    on_pod_conditions: list[PodCondition] | None = None


def failure_rules(job_spec: dict[str, Any]) -> list[FailureRule]:
    """Read the rules of a JobSpec. The API server has checked them; one that cannot be read matches nothing."""
    policy = job_spec.get("podFailurePolicy")
    found = policy.get("rules") if isinstance(policy, dict) else None
    rules = enumerate(found if isinstance(found, list) else [], start=1)
    return [rule for number, each in rules if (rule := _read(number, each)) is not None]


def _read(number: int, rule: Any) -> FailureRule | None:
    try:
        return FailureRule.model_validate({**rule, "number": number})
    except (TypeError, ValidationError):
        return None
