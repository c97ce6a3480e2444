"""The state of the node agent, by its pods on one node."""

from typing import Any

import pytest

from api.projections import agent_view

STARTED = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def pod(phase: str = "Running", state: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    containers = [{"name": "agent", "state": state}] if state else []
    metadata = {"name": "outlast-agent-x", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", **metadata}
    return {"metadata": metadata, "spec": {}, "status": {"phase": phase, "containerStatuses": containers}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def test_one_that_runs() -> None:
    assert agent_view([pod(state=STARTED)], installed=False).running


def test_the_newest_of_several_counts() -> None:
    older = pod("Failed", creationTimestamp="2026-01-01T00:00:00Z", name="old")
    assert agent_view([pod(state=STARTED), older], installed=True).running


@pytest.mark.parametrize(
    ("found", "reason", "message"),
    [
        (pod("Pending", waiting("ErrImagePull", "denied")), "ImagePullBackOff", "denied; if its registry is private"),
        (pod("Running", waiting("CrashLoopBackOff", "back-off 10s")), "CrashLoopBackOff", "back-off 10s"),
        (pod("Pending", waiting("ContainerCreating")), "Pending", "pod outlast-agent-x is Pending"),
        (pod("Failed"), "Failed", "pod outlast-agent-x is Failed"),
    ],
)
def test_one_that_does_not_run_says_why(found: dict[str, Any], reason: str, message: str) -> None:
    seen = agent_view([found], installed=True)
    assert not seen.running
    assert seen.reason == reason
    assert message in seen.message


@pytest.mark.parametrize(("installed", "reason"), [(True, "NoPod"), (False, "NotInstalled")])
def test_without_a_pod_the_daemon_set_tells(installed: bool, reason: str) -> None:
    assert agent_view([], installed=installed).reason == reason
