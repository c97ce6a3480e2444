"""How far a living replica is."""

from tests.unit.policy import NOW, ago, replica
from workflows.job.checkpoints.policy.progress import training_time


def test_time_since_it_runs() -> None:
    assert training_time(replica(running_since=ago(60)), NOW) == 60


def test_training_in_what_it_was_restored_from_counts() -> None:
    assert training_time(replica(base_seconds=500, running_since=ago(60)), NOW) == 560


def test_one_that_does_not_run_is_as_far_as_what_it_starts_from() -> None:
    assert training_time(replica(base_seconds=500, running_since=None), NOW) == 500


def test_clock_of_a_node_that_runs_ahead_takes_nothing_away() -> None:
    assert training_time(replica(base_seconds=500, running_since=ago(-5)), NOW) == 500
