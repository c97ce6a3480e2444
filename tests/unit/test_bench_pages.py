"""What the benchmarks write: tables, plots and counted actions."""

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from api.gang import Gang
from tests.bench.crowd.actions import counted
from tests.bench.crowd.figures import Figures, as_json, from_json, in_order, table
from tests.bench.crowd.plot import plot
from tests.bench.crowd.waypoints import Waypoints, waypoints
from tests.bench.elastic import trained
from tests.bench.page import percentile
from workflows.job.machines.policy.size import starts_larger


def event(kind: str, attempt: int = 0) -> HistoryEvent:
    made = HistoryEvent(event_type=EventType.Value(f"EVENT_TYPE_{kind}"))
    if attempt:
        made.activity_task_started_event_attributes.attempt = attempt
    return made


def test_an_activity_that_was_retried_twice_is_three_actions() -> None:
    found = counted([event("ACTIVITY_TASK_SCHEDULED"), event("ACTIVITY_TASK_STARTED", 3)])
    assert found == {"activity": 1, "retry": 2}


def test_what_nobody_bills_is_not_counted() -> None:
    history = [event("WORKFLOW_EXECUTION_STARTED"), event("WORKFLOW_TASK_SCHEDULED"), event("TIMER_FIRED")]
    assert counted(history) == {"start": 1}


def test_crowds_are_read_again_and_the_last_of_its_kind_counts() -> None:
    rows = [Figures(100, start=1.0), Figures(10), Figures(100, start=2.0), Figures(100, workers=2)]
    found = in_order([from_json(as_json(row)) for row in rows])
    assert [(row.jobs, row.workers, row.start) for row in found] == [(10, 1, None), (100, 1, 2.0), (100, 2, None)]


def test_workers_and_databases_are_shown_if_they_are_not_the_usual() -> None:
    text = table([Figures(10), Figures(10, workers=2, service="postgresql")])
    assert "| worker processes | 1 | 2 |" in text
    assert "| Temporal's database | SQLite | PostgreSQL |" in text
    assert "worker processes" not in table([Figures(10, start=1.0)])


def test_a_storm_is_shown_in_floors() -> None:
    text = table([Figures(10, storm_marked=8, storm_last=3, storm_floor_last=2), Figures(100)])
    assert "| **storm, in floors** | 1.50 | - |" in text
    assert "| storm: lost, doubled | 0, 0 | - |" in text


def test_rows_that_nobody_measured_are_left_out() -> None:
    assert "restart" not in table([Figures(10, start=3)])


def test_memory_is_that_of_each_job_beyond_those_of_the_crowd_before() -> None:
    rows = [Figures(10, megabytes={"bridge": 100}), Figures(110, megabytes={"bridge": 102}), Figures(200)]
    assert "| bridge: KB for each further job | - | 20.5 | - |" in table(rows)


def test_a_plot_is_well_formed_and_has_a_line_and_a_name_for_each_series() -> None:
    drawn = ElementTree.fromstring(plot("a < b", "jobs", {"ours": [(10, 1), (100, 12)], "floor": [(10, 0.5)]}))
    lines = drawn.findall("{*}polyline")
    assert len(lines) == 2
    texts = [text.text for text in drawn.findall("{*}text")]
    assert "a < b" in texts
    assert {"ours", "floor", "10", "100", "0.1"} <= set(texts)


def test_what_grows_with_its_cause_is_a_straight_line() -> None:
    drawn = ElementTree.fromstring(plot("", "jobs", {"ours": [(10, 1), (100, 10), (1000, 100)]}))
    points = [tuple(map(float, each.split(","))) for each in drawn.findall("{*}polyline")[0].attrib["points"].split()]
    (x1, y1), (x2, y2), (x3, y3) = points
    assert (x2 - x1, y2 - y1) == pytest.approx((x3 - x2, y3 - y2), abs=0.2)


def test_percentiles_lie_between_the_nearest_ranks() -> None:
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([1, 2], 0.99) == pytest.approx(1.99)


def at(second: int, kind: str, **attributes: Any) -> HistoryEvent:
    name = f"{kind.lower()}_event_attributes"
    made = HistoryEvent(event_type=EventType.Value(f"EVENT_TYPE_{kind}"), event_id=second, **{name: attributes})
    made.event_time.FromSeconds(second)
    return made


def test_the_way_of_a_notice_is_that_of_the_first_one_after_the_mark() -> None:
    create, other = {"activity_type": {"name": "create_checkpoint"}}, {"activity_type": {"name": "load_job"}}
    events = [
        at(5, "WORKFLOW_EXECUTION_SIGNALED", signal_name="preemption_notice"),
        at(6, "ACTIVITY_TASK_SCHEDULED", **create),
        at(11, "WORKFLOW_EXECUTION_SIGNALED", signal_name="preemption_notice"),
        at(12, "ACTIVITY_TASK_SCHEDULED", **other),
        at(13, "ACTIVITY_TASK_SCHEDULED", **create),
        at(15, "ACTIVITY_TASK_STARTED", scheduled_event_id=12),
        at(17, "ACTIVITY_TASK_STARTED", scheduled_event_id=13),
        at(25, "ACTIVITY_TASK_COMPLETED", scheduled_event_id=13),
    ]
    assert waypoints(WorkflowHistory("job", events), 10) == Waypoints(signalled=1, decided=2, begun=4, called=8)
    assert waypoints(WorkflowHistory("job", events[:-1]), 10) is None


def test_an_elastic_gang_gains_while_a_part_of_the_capacity_is_there() -> None:
    hour = [4] * 12 + [3] * 12 + [0] * 12 + [4] * 12
    shares = [
        trained(gang, hour, 300.0, lambda size, larger: starts_larger(size, larger, 120.0, 0.1)).machine_seconds
        for gang in (Gang(min_size=4, max_size=4), Gang(min_size=2, max_size=4))
    ]
    assert shares[1] > shares[0] + 3 * 3000
    assert shares[1] < sum(hour) * 300.0
