"""Whether a training stalls, and which images contain that."""

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.policy import NOW, ago, point, replica
from tests.workflows.documents import job_spec
from workflows.job.policy.stalls import DEFAULT_SECONDS, Stall, contains_stall, stall_of, stall_timeout
from workflows.job.state.replica import Dump


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, DEFAULT_SECONDS),
        ({"stallTimeout": "20m"}, 1200),
        ({"stallTimeout": "0s"}, None),
        ({"stallTimeout": "20m", "checkpoint": {"progress": None}}, None),
    ],
)
def test_the_patience_is_the_jobs(changes: dict[str, Any], seconds: float | None) -> None:
    assert stall_timeout(job_spec(**changes)) == seconds


def told(**changes: Any) -> Stall | None:
    return stall_of(replica(**{"reading": 7.0, "reading_at": ago(50), **changes}), 100, NOW)


def test_it_stands_since_its_last_figure_was_first_read() -> None:
    assert told() == Stall(7, ago(50), ago(-50))


def test_what_has_reported_nothing_since_its_restore_stands_at_its_image() -> None:
    restored = told(reading=None, reading_at=None, restore=point(500, reported=True))
    assert restored == Stall(500, ago(60), ago(-40))
    assert told(reading=None, reading_at=None, restore=point(500)) is None
    assert told(reading=None, reading_at=None) is None


@pytest.mark.parametrize("changes", [{"phase": "Starting"}, {"halt": "Suspended"}, {"running_since": None}])
def test_what_does_not_train_does_not_stand_still(changes: dict[str, Any]) -> None:
    assert told(**changes) is None


def test_the_time_of_a_dump_does_not_count() -> None:
    made = Dump(number=1, incarnation=0, requested_at=ago(40), ended_at=ago(30))
    assert told(dump=made) == Stall(7, ago(50), ago(-60))
    assert told(dump=made.model_copy(update={"ended_at": None})) is None, "it stands still for us"
    assert told(dump=made.model_copy(update={"incarnation": 3})) == told()
    assert told(dump=Dump(number=1, incarnation=0, requested_at=ago(90), ended_at=ago(80))) == told(), "before that"


def test_images_of_it_from_the_last_figure_on_hold_the_hang() -> None:
    hung = replica(1, incarnation=2, reading=7.0, reading_at=ago(50))
    mine = {"lineage": "1.2", "reported": True}
    assert contains_stall(point(7, **mine), hung)
    assert not contains_stall(point(6, **mine), hung)
    assert not contains_stall(point(7, reported=True, lineage="0.2"), hung), "its sibling got past it"
    assert contains_stall(point(1, lineage="1.2", created_at=ago(49)), hung)
    assert not contains_stall(point(1, lineage="1.2", created_at=ago(50) - timedelta(seconds=1)), hung)
