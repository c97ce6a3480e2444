"""What the command line tells of a job, as a person reads it."""

from datetime import UTC, datetime

import pytest
from rich.console import Console, RenderableType

from api.common import Condition
from api.cost import CostRecord
from api.spot_instance_job import JobStatusEntry
from cli import cost, page, status, timeline
from cli.times import span
from tests.command_line.jobs import COST, HISTORY, START, at, job


def text(shown: RenderableType) -> str:
    console = Console(width=140, no_color=True, markup=False)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


def test_a_card_names_each_replica_with_its_node_and_origin() -> None:
    shown = text(status.card(job()))
    for part in (
        "team/bert",
        "Running 2/2",
        "replica 0",
        "replica 1",
        "vm-c",
        "started from bert:p12",
        "1 preemptions",
    ):
        assert part in shown, part


def test_a_card_says_what_it_waits_for_and_since_when() -> None:
    waiting = Condition(
        type="CapacityAvailable", status="False", reason="NoCapacity", message="no T4 in us-central1-a",
        last_transition_time=datetime.now(UTC),
    )  # fmt: skip
    entry = JobStatusEntry(name="r0", replica=0, incarnation=0, phase="Provisioning")
    shown = text(status.card(job(state=None, job_statuses=[entry], conditions=[waiting])))
    assert "waits: no T4 in us-central1-a (for 0s)" in shown


def test_a_job_that_nobody_has_read_is_told_of() -> None:
    fresh = {**job(), "status": {}}
    assert "Reading the spec" in text(status.card(fresh))
    assert "Reading the spec" in text(status.list_of([fresh], everywhere=False))


def test_what_people_wrote_is_no_markup() -> None:
    assert "[red]x[/red]" in text(status.card(job(message="[red]x[/red]")))


def test_costs_are_summed_up_and_compared() -> None:
    record = CostRecord(
        job="llm", job_id="1", ended="Completed", ended_at=START, usd=2, on_demand_usd=8, vm_hours=10, gpu_hours=20
    )
    other = record.model_copy(update={"job": "t5", "usd": 1.0, "on_demand_usd": 2.0})
    shown = text(cost.table([("team", record), ("team", other)])).splitlines()
    assert "$2.00" in shown[1]
    assert "75 %" in shown[1]
    assert "$3.00" in shown[-1]
    assert "70 %" in shown[-1]


def test_no_cost_at_all_is_a_table_without_lines() -> None:
    assert "$0.00" in text(cost.table([]))


def story() -> timeline.Story:
    told = status.status_of(job())
    moments = [timeline.Moment(at(60), "Preempted", "<script>alert(1)</script>", warning=True)]
    return timeline.Story("bert", "team", START, at(120), told, moments)


def test_the_page_draws_a_bar_for_each_incarnation() -> None:
    drawn = page.drawing(story())
    assert drawn.count('<rect class="bar"') == len(HISTORY)
    assert drawn.count('class="loss"') == 1  # the one that was lost
    assert "incarnation 1 on vm-c from bert:p12" in drawn


def test_the_page_has_figures_and_runs_nothing_that_others_wrote() -> None:
    html = page.page(story())
    assert f"${COST.until(at(120)).usd:.2f}" in html
    assert "<script" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (3599, "59m"), (7500, "2h05m"), (90_000, "1d1h")],
)
def test_spans_are_short(seconds: float, told: str) -> None:
    assert span(seconds) == told
