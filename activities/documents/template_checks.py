"""What a SpotInstanceJob cannot do of its ``jobTemplate``, though the API server would accept it. Pure."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from api import reasons
from api.common import Condition, not_accepted
from api.failure_policy import DISRUPTION, failure_rules
from api.names import shown
from api.spot_instance_job import SpotInstanceJobSpec

MOST_PROBLEMS = 16
"""Limit for one template: a spec may contain thousands of wrong rules, and Temporal allows 2 MiB."""


def template_problems(spec: SpotInstanceJobSpec) -> list[Condition]:
    """List the problems, each with its remedy."""
    return [not_accepted(reasons.INVALID_JOB_TEMPLATE, message) for message in islice(_messages(spec), MOST_PROBLEMS)]


def template_warnings(spec: SpotInstanceJobSpec) -> list[str]:
    """List what a template leaves open that may cost money."""
    names = _containers(spec)
    if spec.main_container is not None or len(names) < 2:
        return []
    there = ", ".join(shown(name) for name in names[:MOST_PROBLEMS])
    return [
        f"jobTemplate has the containers {there}: the training ends, and its machine with it, once all of them have "
        "exited 0. If only the end of one counts, name it in mainContainer"
    ]


def _containers(spec: SpotInstanceJobSpec) -> list[Any]:
    return [each.get("name") for each in spec.pod.get("containers") or [] if isinstance(each, dict)]


def _messages(spec: SpotInstanceJobSpec) -> Iterator[str]:
    if spec.job_spec.get("successPolicy") is not None:
        yield (
            "jobTemplate.spec.successPolicy has no meaning here, since all pods of a replica have to succeed: leave it "
            "out, and say by spec.completionPolicy whether one replica's success is enough (Any) or all have to "
            "succeed (All)"
        )
    yield from _failure_policy(spec)
    containers = _containers(spec)
    if spec.main_container is not None and spec.main_container not in containers:
        there = ", ".join(shown(name) for name in containers[:MOST_PROBLEMS])
        yield (
            f"mainContainer: jobTemplate has no container {shown(spec.main_container)}: name one of {there}, or leave "
            "it out"
        )


def _failure_policy(spec: SpotInstanceJobSpec) -> Iterator[str]:
    for rule in failure_rules(spec.job_spec):
        field = f"jobTemplate.spec.podFailurePolicy.rules[{rule.number - 1}]"
        if rule.action == "FailIndex":
            yield f"{field}: FailIndex ends one pod of several, but all pods of a replica go together: write FailJob"
        if rule.action != "Ignore" and DISRUPTION in [each.type for each in rule.on_pod_conditions or []]:
            yield (
                f"{field}: {shown(rule.action)} on {DISRUPTION} would end the job when a spot VM is preempted, which "
                "it is there to outlast: write Ignore, or leave the rule out"
            )
