"""Which restore point is used, and which are kept."""

from typing import Any

import pytest

from api.views import RestorePoint
from tests.unit.policy import ago, point, replica
from workflows.job.checkpoints.policy.restore import (
    furthest,
    gpu_of,
    images_to_delete,
    keep,
    misfit,
    restoring,
    same,
    usable,
)

BAD = ["node-a", "node-b"]


@pytest.mark.parametrize(
    ("failed_on", "expected"),
    [([], True), (["node-a"], True), (["node-a", "node-a"], True), (BAD, False)],
)
def test_image_is_bad_once_two_nodes_could_not_start_it(failed_on: list[str], expected: bool) -> None:
    assert usable(point(failed_on=failed_on)) is expected


@pytest.mark.parametrize(
    ("best", "other"),
    [
        (point(200), point(100)),
        (point(200, created_at=ago(500)), point(100)),
        (point(100, reported=True), point(900)),
        (point(200, reported=True), point(100, reported=True)),
        (point(100), point(100, created_at=ago(60))),
        (point(100), point(900, failed_on=BAD)),
        (point(200, failed_on=["node-a"]), point(100)),
        (point(200), point(100, proven=True)),
    ],
    ids=[
        "further",
        "further though older",
        "reported before seconds",
        "further of two reported ones",
        "newer of two equal ones",
        "not the bad one",
        "failed once is not bad",
        "further though not proven",
    ],
)
def test_furthest(best: RestorePoint, other: RestorePoint) -> None:
    assert furthest([best, other]) is best
    assert furthest([other, best]) is best


def test_nothing_usable_is_nothing() -> None:
    assert furthest([point(failed_on=BAD)]) is None
    assert furthest([]) is None


def test_furthest_ones_are_kept_in_their_order() -> None:
    points = [point(300), point(100), point(200), point(400)]
    assert keep(points, 3) == [points[0], points[2], points[3]]


@pytest.mark.parametrize("last", [1, 3])
def test_the_furthest_of_the_newest_machine_is_kept_where_none_further_fits_there(last: int) -> None:
    there, here = {"cpu": "Skylake"}, {"cpu": "Milan"}
    old = [point(900 + one, fingerprint=there, created_at=ago(1000)) for one in range(3)]
    new = [point(50, fingerprint=here, created_at=ago(20)), point(20, fingerprint=here, created_at=ago(10))]
    assert keep([*old, *new], last) == [*old[3 - last :], new[0]]
    assert keep([*old, point(950, fingerprint={}, created_at=ago(5))], 3)[:2] == old[1:]


def test_fewer_than_the_limit_are_all_kept() -> None:
    points = [point(100), point(50, failed_on=BAD)]
    assert keep(points, 3) == points


def test_bad_one_gives_way_to_one_that_is_less_far() -> None:
    points = [point(900, failed_on=BAD), point(100), point(200)]
    assert keep(points, 2) == points[1:]


def test_seconds_give_way_to_reported_figures() -> None:
    points = [point(900), point(1, reported=True), point(2, reported=True)]
    assert keep(points, 2) == points[1:]


def test_furthest_proven_one_is_kept_beside_the_last() -> None:
    points = [point(50, proven=True), point(100, proven=True), point(200), point(300)]
    assert keep(points, 2) == points[1:]


def test_proven_one_among_the_last_needs_no_place_of_its_own() -> None:
    points = [point(50, proven=True), point(200), point(300, proven=True)]
    assert keep(points, 2) == points[1:]


def test_proven_one_that_went_bad_is_not_kept() -> None:
    points = [point(100, proven=True, failed_on=BAD), point(200), point(300)]
    assert keep(points, 2) == points[1:]


def test_what_a_replica_is_being_started_from_is_kept_however_near() -> None:
    points = [point(50), point(100), point(200), point(300)]
    assert keep(points, 2, in_use=[points[0]]) == [points[0], *points[2:]]


def test_the_last_usable_one_is_never_dropped() -> None:
    points = [point(10), *(point(progress, failed_on=BAD) for progress in (100, 200, 300))]
    assert points[0] in keep(points, 1)


@pytest.mark.parametrize(
    ("changes", "in_use"),
    [
        ({"phase": "Starting", "running_since": None, "live": True}, True),
        ({"phase": "Running", "live": True}, False),
        ({"phase": "Preempted", "running_since": None, "live": False}, False),
        ({"phase": "Starting", "running_since": None, "live": True, "restore": None}, False),
    ],
    ids=["is being started", "runs", "seeks another machine and will choose anew", "starts from the beginning"],
)
def test_in_use_is_what_a_replica_is_being_started_from(changes: dict[str, Any], in_use: bool) -> None:
    assert bool(restoring([replica(**{"restore": point(1), **changes})])) is in_use


def test_the_same_images_are_known_by_tag_or_digest() -> None:
    pinned = point(images={"train": "r/t:1@sha256:a"})
    assert same(pinned, point(images={"train": "r/t:1"}))
    assert not same(pinned, point(images={"train": "r/t:2"}))
    assert not same(point(images={"train": "r/t@sha256:a"}), point(images={"train": "r/t@sha256:b"}))
    assert same(point(images={"train": "r:5/t@sha256:a"}), point(images={"train": "r:5/t@sha256:a"}))


@pytest.mark.parametrize(
    ("dropped", "kept", "expected"),
    [
        ("r/t:1@sha256:a", "r/t:2@sha256:b", ["r/t:1@sha256:a"]),
        ("r/t:1", "r/t:2@sha256:b", ["r/t:1"]),
        ("r/t:1@sha256:a", "r/t:2@sha256:a", []),
        ("r/t:1", "r/t:1", []),
    ],
    ids=["another image", "not pinned", "the same manifest under another tag", "the same tag"],
)
def test_an_image_goes_only_where_no_kept_point_holds_it(dropped: str, kept: str, expected: list[str]) -> None:
    gone, stays = point(images={"train": dropped}), point(images={"train": kept})
    assert images_to_delete([gone], [stays]) == expected


HERE = {"gpu": "t4", "gpuCount": "1", "driver": "570", "kernel": "6.1", "cpu": "Skylake", "runtime": "2.1"}


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({}, ""),
        (HERE, ""),
        ({"gpu": "l4"}, "GPU l4 there, t4 here"),
        ({"gpuCount": "2"}, "number of GPUs 2 there, 1 here"),
        ({"driver": "580"}, "driver 580 there, 570 here"),
        ({"kernel": "6.12", "cpu": "Milan"}, "kernel 6.12 there, 6.1 here, CPU Milan there, Skylake here"),
        ({"runtime": "1.7"}, ""),
    ],
    ids=["nothing known", "the same", "GPU", "GPUs", "driver", "kernel and CPU", "of no account"],
)
def test_point_fits_where_what_it_depends_on_is_the_same(there: dict[str, str], expected: str) -> None:
    assert misfit(point(fingerprint=there), HERE) == expected
    assert misfit(point(fingerprint=there), {}) == ""


def test_furthest_of_those_that_fit() -> None:
    points = [point(300, fingerprint={"gpu": "l4"}), point(200, fingerprint=HERE), point(100)]
    assert furthest(points, HERE) is points[1]
    assert furthest(points[:1], HERE) is None
    assert furthest(points) is points[0]


@pytest.mark.parametrize(
    ("fingerprint", "expected"),
    [(HERE, ("t4", 1)), ({"gpu": "t4"}, None), ({}, None)],
    ids=["known", "half known", "not known"],
)
def test_gpu_that_an_image_needs(fingerprint: dict[str, str], expected: tuple[str, int] | None) -> None:
    found = gpu_of(point(fingerprint=fingerprint))
    assert (found and (found.type, found.count)) == expected
    assert gpu_of(None) is None
