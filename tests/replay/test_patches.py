"""A run that began on a release has the patches of that release, and no later one, by the release's own note."""

from tests.replay import patches
from tests.replay.releases import kept
from workflows.common.patches import RELEASES


def test_no_run_takes_a_later_patch_for_granted() -> None:
    assert patches.unlisted(patches.used(), patches.kept(), RELEASES) == {}


def test_what_is_missing_in_the_list_is_found() -> None:
    had = {"0.3.0": {"one"}, "0.4.0": {"one", "two"}}
    listed = {"0.5.0": frozenset({"three"}), "0.4.0": frozenset({"two"}), "0.3.0": frozenset[str]()}
    assert patches.unlisted({"one", "two", "three"}, had, listed) == {}
    assert patches.unlisted({"one", "two", "three", "four"}, had, listed) == {"0.4.0": {"four"}, "0.3.0": {"four"}}
    assert patches.unlisted({"one", "two"}, had, {"0.4.0": frozenset(), "0.3.0": frozenset()}) == {"0.3.0": {"two"}}


def test_listed_patches_are_asked_for() -> None:
    used = patches.used()
    assert {"one-clock", "orders-answered"} <= used
    assert frozenset().union(*RELEASES.values()) <= used


def test_each_release_with_patches_of_its_own_notes_itself() -> None:
    without_a_note = {"0.1.0", "0.2.0"}
    assert set(kept("histories")) - without_a_note <= set(RELEASES)
