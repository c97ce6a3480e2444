"""When a sweep is itself the danger, and what it reports."""

import json
import shlex

import pytest

from activities.signatures import SweepRequest
from api.sweep import Kind, Swept
from workflows.sweep.policy import (
    NAMED,
    alarm,
    by_hand,
    needs_credentials,
    shortened,
    summary,
    too_many,
)


@pytest.mark.parametrize(
    ("orphans", "seen", "expected"),
    [(0, 0, False), (1, 1, False), (3, 3, False), (4, 4, True), (4, 7, True), (4, 8, False), (5, 8, True)],
)
def test_more_than_a_few_and_more_than_half(orphans: int, seen: int, expected: bool) -> None:
    assert too_many(orphans, seen) is expected


def kind(name: Kind, orphans: int, seen: int) -> Swept:
    return Swept(kind=name, seen=seen, orphans=[str(number) for number in range(orphans)])


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ([], None),
        ([kind("machines", 3, 3), kind("CheckpointBackups", 3, 3)], None),
        ([kind("machines", 4, 4)], "4 of 4 machines"),
        ([kind("CheckpointBackups", 9, 10)], "9 of 10 CheckpointBackups"),
        ([kind("machines", 4, 5), kind("CheckpointBackups", 5, 6)], "4 of 5 machines and 5 of 6 CheckpointBackups"),
        ([kind("Leases", 4, 5)], "4 of 5 Leases"),
        ([kind("finalizers", 5, 5)], "5 of 5 finalizers"),
        ([kind("marks", 9, 9)], None),  # no workflow decides about these
        ([kind("images", 9, 9)], None),
    ],
)
def test_many_of_a_kind_stop_the_whole_sweep(kinds: list[Swept], said: str | None) -> None:
    told = alarm(kinds, "COMMAND")
    assert (told is None) == (said is None)
    if said:
        assert said in (told or "")
        assert (told or "").endswith("COMMAND")


@pytest.mark.parametrize(
    ("machines", "unreadable", "said"),
    [([], [], None), (["b"], [], None), (["a", "b"], [], "still has machines"), ([], ["p: 403"], "may have machines")],
)
def test_what_a_teardown_needs_stays(machines: list[str], unreadable: list[str], said: str | None) -> None:
    told = needs_credentials("a", machines, unreadable)
    assert (told is None) == (said is None)
    assert (said or "") in (told or "")


def test_the_command_is_one_that_a_shell_takes_apart_as_meant() -> None:
    request = SweepRequest(cluster_id="c", namespace="n", anyway=True)
    words = shlex.split(by_hand("Sweep", "outlast", "default", request.model_dump_json(by_alias=True)))
    assert words[:3] == ["temporal", "workflow", "start"]
    given = SweepRequest.model_validate(json.loads(words[words.index("--input") + 1]))
    assert given == request


@pytest.mark.parametrize(
    ("kinds", "unreadable", "dry", "expected"),
    [
        ([kind("machines", 0, 0)], [], False, "there is nothing that could be an orphan"),
        (
            [kind("machines", 1, 9), kind("marks", 0, 0), kind("images", 0, 2)],
            [],
            True,
            "orphans: 1 of 9 machines, 0 of 2 images (dry run)",
        ),
        ([kind("machines", 0, 1)], ["p: no"], False, "orphans: 0 of 1 machines; not readable: p: no"),
    ],
)
def test_one_line_for_the_web_ui(kinds: list[Swept], unreadable: list[str], dry: bool, expected: str) -> None:
    assert summary(kinds, unreadable, dry) == expected


def test_a_report_is_bounded() -> None:
    assert shortened(kind("machines", NAMED, NAMED)) == kind("machines", NAMED, NAMED)
    assert shortened(kind("machines", NAMED + 7, NAMED + 7)).orphans[-2:] == [str(NAMED - 1), "and 7 more"]
