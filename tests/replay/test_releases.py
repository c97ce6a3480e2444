"""The releases whose recordings are kept, and which of them may still be written."""

from pathlib import Path

import pytest

from tests.replay.releases import KINDS, ReleasedError, folder, is_supported, kept, version


@pytest.mark.parametrize("kind", KINDS)
def test_supported_releases_alone_are_kept(kind: str) -> None:
    """docs/releasing.md says that the others' folders are deleted. CI replays each that is left."""
    assert [each for each in kept(kind) if not is_supported(each, version())] == []


@pytest.mark.parametrize(
    ("release", "newest", "supported"),
    [
        ("0.2.0", "0.2.0", True),
        ("0.1.3", "0.2.0", True),
        ("0.1.3", "0.3.0", False),
        ("0.9.0", "0.10.0", True),
        ("1.0.0", "2.0.0", False),
    ],
)
def test_the_last_two_minor_releases_are_supported(release: str, newest: str, supported: bool) -> None:
    assert is_supported(release, newest) is supported


def test_a_release_that_is_out_is_not_recorded_anew(tmp_path: Path) -> None:
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text("## [Unreleased]\n\n## [99.0.0] - 2026-12-01\n")
    with pytest.raises(ReleasedError, match=r"99\.0\.0 is released, as CHANGELOG\.md says.*next version in pyproject"):
        folder("histories", "99.0.0", changelog)


def test_an_older_release_than_the_newest_is_not_recorded_anew() -> None:
    with pytest.raises(ReleasedError, match=r"replay/histories/0\.0\.9 is of an older release than "):
        folder("histories", "0.0.9")
