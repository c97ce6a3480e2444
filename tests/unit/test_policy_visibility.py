"""The values by which a job is found, as a table. The docs' table is the one that is registered."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from api.common import Condition
from api.messages import JobStart
from api.phases import Phase as ReplicaPhase
from api.search_attributes import ALL, PHASE, WAITS_FOR
from api.spot_instance_job import SpotInstanceJobStatus
from tests.unit.test_overview import ACCEPTED, CAPACITY, condition, status
from workflows.job.policy.visibility import Phase, found_by
from workflows.job.state.job import JobState

START = JobStart(namespace="team-a", name="llm", uid="u", cluster_id="c", job_id="0123abcd")
KEYWORDS, BOOLS = 10, 3  # columns of a SQL database, in each Temporal namespace
PAGE = Path(__file__).parents[2] / "docs" / "temporal-cli.md"

SUSPENDED = condition("Suspended", "True", "Suspended")
CASES: list[tuple[SpotInstanceJobStatus, Phase, str | None]] = [
    (status(), "Preparing", None),
    (status(told=[condition("Accepted")]), "Preparing", "Accepted"),
    (status(told=[ACCEPTED, condition("RegistryReady")]), "Preparing", "RegistryReady"),
    (status("Pending", "Pending", told=[ACCEPTED]), "Seeking", None),
    (status("Provisioning", "Provisioning", told=[ACCEPTED, CAPACITY]), "Seeking", "CapacityAvailable"),
    (status("Provisioning", "Queued"), "Seeking", None),
    (status("Queued", "Queued", told=[condition("Queued", "True")]), "Queued", "Queued"),
    (status("Joining", "Provisioning"), "Starting", None),
    (status("Starting", told=[condition("PodsStart")]), "Starting", "PodsStart"),
    (status("Running", "Provisioning", told=[CAPACITY]), "Running", None),
    (status("Judging", "Releasing"), "Ending", None),
    (status("Releasing", told=[condition("Suspended", "False", "Checkpointing")]), "Suspending", None),
    (status("Suspended", told=[SUSPENDED]), "Suspended", None),
    (status("Pending", told=[condition("Suspended", "False", "Resumed")]), "Seeking", None),
    (status("Succeeded", told=[condition("Completed", "True")]), "Completed", None),
    (status("Failed", told=[condition("Failed", "True")]), "Failed", None),
    (status("Releasing", told=[condition("Running", "False", "Deleted")]), "Deleting", None),
]


def found(told: SpotInstanceJobStatus) -> dict[str, Any]:
    return found_by(START, JobState(), told)


@pytest.mark.parametrize(("told", "phase", "waits_for"), CASES)
def test_phase_and_what_it_waits_for(told: SpotInstanceJobStatus, phase: Phase, waits_for: str | None) -> None:
    assert (found(told)[PHASE], found(told).get(WAITS_FOR)) == (phase, waits_for)


def test_each_phase_of_a_job_has_a_case() -> None:
    assert {phase for _, phase, _ in CASES} == set(get_args(Phase))


@pytest.mark.parametrize("phase", get_args(ReplicaPhase))
def test_no_phase_of_a_replica_is_forgotten(phase: str) -> None:
    ends = {"Judging", "Releasing", "Released", "Succeeded", "Failed"}
    assert (found(status(phase))[PHASE] == "Ending") == (phase in ends)


def test_values_of_a_job_are_of_the_registered_types() -> None:
    types = {"Keyword": str, "Bool": bool}
    kinds = {attribute.name: types[attribute.kind] for attribute in ALL}
    for told, _, _ in CASES:
        assert all(type(value) is kinds[name] for name, value in found(told).items())


def test_all_fit_into_a_sql_database() -> None:
    kinds = [attribute.kind for attribute in ALL]
    assert (kinds.count("Keyword"), kinds.count("Bool")) <= (KEYWORDS, BOOLS)
    assert kinds.count("Bool") <= BOOLS
    assert len({attribute.name for attribute in ALL}) == len(ALL)


def test_a_condition_that_says_nothing_changes_nothing() -> None:
    plain = found(status("Running"))
    assert found(status("Running", told=[Condition(type="Progressing", status="True", reason="R")])) == plain


def test_the_docs_list_the_registered_attributes_and_the_phases() -> None:
    rows = re.findall(r"^\| `(Outlast\w+)` \| (\w+) \| ", PAGE.read_text(), re.MULTILINE)
    assert rows == [(attribute.name, attribute.kind) for attribute in ALL]
    named = re.search(r"^Phases: ([^.]*)\.", PAGE.read_text(), re.MULTILINE)
    assert named is not None
    assert re.findall(r"`(\w+)`", named[1]) == list(get_args(Phase))
