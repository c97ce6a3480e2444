"""When a sweep is itself the danger."""

import pytest

from workflows.policy.sweep import too_many


@pytest.mark.parametrize(
    ("orphans", "seen", "expected"),
    [(0, 0, False), (1, 1, False), (3, 3, False), (4, 4, True), (4, 7, True), (4, 8, False), (5, 8, True)],
)
def test_more_than_a_few_and_more_than_half(orphans: int, seen: int, expected: bool) -> None:
    assert too_many(orphans, seen) is expected
