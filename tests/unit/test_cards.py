"""The card of a job in the Web UI, and what helps."""

import re
from pathlib import Path
from typing import Any

import pytest

from api import conditions
from api.advice import HELPS
from api.common import Condition
from api.messages import JobStart
from api.overview import BLOCKERS, CHECKS, WARNINGS
from tests.unit.policy import NOW, ago, point, replica
from workflows.common.markdown import plain
from workflows.job.policy.card import card
from workflows.job.state.job import JobState

START = JobStart(namespace="team", name="llm", uid="u", cluster_id="c", job_id="0a1b2c3d")
PAGE = Path(__file__).parents[2] / "docs" / "conditions.md"


def shown(*replicas: Any, **changes: Any) -> str:
    return card(START, JobState(replicas={one.index: one for one in replicas}, **changes), NOW)


def told(kind: str, status: str = "False", message: str = "no T4", reason: str = "NoCapacity") -> dict[str, Condition]:
    found = Condition(type=kind, status=status, reason=reason, message=message, last_transition_time=ago(60))
    return {kind: found}


def line(**changes: Any) -> str:
    return next(each for each in shown(replica(0, **changes)).splitlines() if each.startswith("- **replica 0"))


def test_it_begins_with_what_the_job_is_doing() -> None:
    assert shown(replica(0)).splitlines()[0] == "### Running 1/1"


def test_it_tells_of_each_replica() -> None:
    assert line(incarnation=2, preemptions=1, message="well", reading=1200.0, restore=point(100)) == (
        "- **replica 0**: Running, well · incarnation 2 from 100 · progress 1200 · preempted 1 times · on node-0"
    )


def test_without_reported_progress_it_tells_the_time() -> None:
    assert "progress 60 s" in line()


def test_a_replica_may_have_no_place() -> None:
    assert line(phase="Pending", node=None, running_since=None, incarnation=-1) == (
        "- **replica 0**: Pending · progress 0 s"
    )


def test_what_the_job_waits_for_comes_first_with_what_helps() -> None:
    text = shown(
        replica(0, phase="Provisioning", message="NoCapacity: no T4 | in a"),
        conditions=told("CapacityAvailable", message="no T4 | in a") | told("AgentReady", message="no pod"),
    )
    assert text.splitlines()[0] == "### Buying a VM"
    assert text.index("CapacityAvailable=False") < text.index("AgentReady=False")
    assert "no T4 \\| in a" in text
    assert HELPS[conditions.CAPACITY_AVAILABLE] in text
    assert "- **replica 0**: Provisioning, NoCapacity ·" in text, "the message stands above"


def test_what_no_replica_waits_for_any_more_is_no_problem() -> None:
    assert "What helps" not in shown(replica(0), conditions=told("CapacityAvailable"))


@pytest.mark.parametrize("kind", ["Queued", "Failed"])
def test_some_conditions_are_told_of_if_they_are_true(kind: str) -> None:
    assert f"**{kind}=True**" in shown(replica(0, phase="Pending"), conditions=told(kind, "True"))
    assert "What helps" not in shown(replica(0, phase="Pending"), conditions=told(kind, "False"))


def test_others_words_are_no_markup() -> None:
    assert plain("<img src=x> [a](b)\n# c_d _e_ `f` $1$") == r"\<img src=x> \[a\](b) # c_d \_e\_ \`f\` \$1\$"


def test_whatever_may_be_wrong_has_advice() -> None:
    assert {blocker.type for blocker in BLOCKERS} | set(CHECKS) | set(WARNINGS) <= set(HELPS)


def test_the_page_explains_each_condition_that_has_advice() -> None:
    explained = set(re.findall(r"`(\w+)=(?:True|False)`", PAGE.read_text()))
    assert set(HELPS) <= explained
