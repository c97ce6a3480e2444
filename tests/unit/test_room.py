"""How much a worker takes on, by its memory limit and its settings."""

from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from worker.room import BASE, CACHED, MEBIBYTE, UNLIMITED, cached_workflows, memory_limit
from worker.settings import from_environment

DEPLOYED = Path(__file__).parents[2] / "deploy/base/worker/worker.yaml"


@pytest.mark.parametrize(
    ("written", "limit"),
    [
        ("2147483648\n", 2 << 30),
        ("max\n", UNLIMITED),
        ("9223372036854771712\n", UNLIMITED),  # no limit, in version 1
    ],
)
def test_the_limit_is_the_kernels(tmp_path: Path, written: str, limit: int) -> None:
    file = tmp_path / "memory.max"
    file.write_text(written)
    assert memory_limit((tmp_path / "none", file)) == limit


def test_without_a_limit_a_worker_takes_what_an_installation_gives_it(tmp_path: Path) -> None:
    deployed = next(each for each in yaml.safe_load_all(DEPLOYED.read_text()) if each["kind"] == "Deployment")
    [container] = deployed["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == "1Gi"
    assert memory_limit((tmp_path / "none",)) == UNLIMITED == 1024 * MEBIBYTE


@pytest.mark.parametrize("gibibytes", [1, 2, 4, 8])
def test_what_is_kept_leaves_a_quarter_of_the_memory(gibibytes: int) -> None:
    memory = gibibytes << 30
    kept = cached_workflows(memory)
    assert BASE + kept * CACHED <= memory * 0.75
    assert kept > 1300 * gibibytes * 0.9


def test_a_worker_with_little_memory_keeps_some() -> None:
    assert cached_workflows(128 * MEBIBYTE) == 200


def test_all_of_it_can_be_set() -> None:
    room = from_environment(
        {
            "OUTLAST_ACTIVITIES": "2",
            "OUTLAST_LONG_ACTIVITIES": "3",
            "OUTLAST_WORKFLOW_TASKS": "4",
            "OUTLAST_CACHED_WORKFLOWS": "5",
            "OUTLAST_STICKY_TIMEOUT": "6s",
        }
    ).room
    counts = (room.prompt, room.long, room.workflow_tasks, room.cached_workflows)
    assert (counts, room.sticky) == ((2, 3, 4, 5), timedelta(seconds=6))


@pytest.mark.parametrize(("name", "value"), [("OUTLAST_ACTIVITIES", "0"), ("OUTLAST_WORKFLOW_TASKS", "1")])
def test_a_worker_that_could_do_nothing_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name}='{value}': at least"):
        from_environment({name: value})
