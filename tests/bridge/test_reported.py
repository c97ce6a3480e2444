"""What a bridge leaves in its Lease for the next one, and when that is not believed."""

import pytest

from crd_bridge import reported
from crd_bridge.reported import NOTHING, Reported

SAID = Reported({"nodes": 12, "pods": 7})
LATER = 13
"""The version of the Lease in which it was written: each write has a version of its own, higher than all before."""


def test_it_is_read_as_it_was_written() -> None:
    assert Reported.read(SAID.written("uid"), "uid", LATER) == SAID


def test_what_changed_up_to_its_version_is_covered() -> None:
    assert SAID.covers("nodes", 12)
    assert not SAID.covers("nodes", 13)
    assert not SAID.covers("jobs", 1)


def test_a_copy_of_the_lease_in_another_cluster_is_not_believed() -> None:
    assert Reported.read(SAID.written("uid"), "another uid", LATER) == NOTHING


def test_what_is_newer_than_its_lease_is_not_believed() -> None:
    """After a restore of etcd, versions begin again, and the bridge that acted all the time has written its own."""
    assert Reported.read(SAID.written("uid"), "uid", 11) == NOTHING


def test_another_release_reports_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written = SAID.written("uid")
    monkeypatch.setattr(reported, "_code", lambda: "another release")
    assert Reported.read(written, "uid", LATER) == NOTHING


@pytest.mark.parametrize("text", ["", "x", "[]", "7", "{}", '{"lease": "uid"}'])
def test_what_somebody_else_wrote_is_not_believed(text: str) -> None:
    assert Reported.read(text, "uid", LATER) == NOTHING


def test_versions_that_are_none_are_not_believed() -> None:
    assert Reported.read(SAID.written("uid").replace("12", '"many"'), "uid", LATER) == NOTHING
