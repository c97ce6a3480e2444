"""``spec.ttlSecondsAfterFinished``: the bridge deletes a finished SpotInstanceJob, with its own rights."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from crd_bridge import jobs
from crd_bridge.expiry import due_at, seconds_until
from sandbox.errors import SandboxError
from tests.bridge.own_bridge import own_bridge
from tests.bridge.policies import AS_BRIDGE
from tests.bridge.recorder import eventually
from tests.bridge.test_jobs import QUIET, Train


@pytest.fixture
def train(control_plane: Any, namespace: str, client: Client) -> Train:
    return Train(control_plane, namespace, client)


@pytest.fixture
def bridge(control_plane: Any, installed: None, recording: Client, tmp_path: Path) -> Any:
    """Run a bridge with its own rights while a block lasts."""
    return lambda: own_bridge(control_plane, recording, tmp_path)


class Clock:
    """The bridge's clock, which the test can put forward."""

    def __init__(self) -> None:
        self.passed = 0.0

    def seconds_until(self, moment: datetime) -> float:
        return seconds_until(moment) - self.passed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(jobs, "seconds_until", made.seconds_until)
    monkeypatch.setattr(jobs, "LONGEST_WAIT", 0.2)
    return made


def ended(seconds_ago: float = 0, kind: str = "Completed") -> dict[str, Any]:
    at = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat(timespec="seconds")
    condition = {"type": kind, "status": "True", "reason": "Test", "message": "", "lastTransitionTime": at}
    return {"conditions": [condition]}


async def finish(train: Train, apply: Any, job: Any, ttl: int | None, seconds_ago: float = 0, **more: Any) -> str:
    """Make a job that ended so long ago, and of which only the object is left; return its UID."""
    if ttl is not None:
        job["spec"]["ttlSecondsAfterFinished"] = ttl
    await apply(job)
    await train.write_status(ended(seconds_ago, **more))
    return str((await train.metadata())["uid"])


async def is_there(train: Train) -> bool:
    return bool((await train.kubectl("get", "--ignore-not-found", "-o", "name")).strip())


async def goes(train: Train) -> None:
    async def gone() -> bool:
        return not await is_there(train)

    await eventually(gone, "the SpotInstanceJob is deleted")


async def stays(train: Train) -> None:
    await asyncio.sleep(QUIET)
    assert await is_there(train)
    assert "deletionTimestamp" not in await train.metadata()


@pytest.mark.parametrize("kind", ["Completed", "Failed"])
async def test_a_job_that_ended_long_ago_goes_and_no_workflow_begins(
    train: Train, apply: Any, job: Any, bridge: Any, kind: str
) -> None:
    """So it is after an outage, or if a job ended before the field existed."""
    await finish(train, apply, job, ttl=60, seconds_ago=3600, kind=kind)
    async with bridge():
        await goes(train)
    await train.never_ran()


async def test_it_goes_when_its_time_has_come_and_not_before(
    train: Train, apply: Any, job: Any, bridge: Any, clock: Clock
) -> None:
    await finish(train, apply, job, ttl=3600)
    async with bridge():
        await stays(train)
        clock.passed = 3600
        await goes(train)


async def test_without_the_field_it_stays(train: Train, apply: Any, job: Any, bridge: Any) -> None:
    await finish(train, apply, job, ttl=None, seconds_ago=10**6)
    async with bridge():
        await stays(train)


async def test_one_that_trains_stays_whatever_its_ttl(train: Train, apply: Any, job: Any, bridge: Any) -> None:
    job["spec"]["ttlSecondsAfterFinished"] = 0
    async with bridge():
        await apply(job)
        await train.running()
        await stays(train)


async def test_the_ttl_may_be_edited_after_the_end(
    train: Train, apply: Any, job: Any, bridge: Any, clock: Clock
) -> None:
    await finish(train, apply, job, ttl=3600)
    async with bridge():
        await train.kubectl("patch", "--type=merge", "-p", '{"spec": {"ttlSecondsAfterFinished": null}}')
        clock.passed = 3600
        await stays(train)
        await train.kubectl("patch", "--type=merge", "-p", '{"spec": {"ttlSecondsAfterFinished": 7200}}')
        await stays(train)
        await train.kubectl("patch", "--type=merge", "-p", '{"spec": {"ttlSecondsAfterFinished": 0}}')
        await goes(train)


async def test_it_waits_for_the_teardown_to_end(train: Train, apply: Any, job: Any, bridge: Any) -> None:
    job["spec"]["ttlSecondsAfterFinished"] = 0
    async with bridge():
        await apply(job)
        await train.running()
        await train.write_status(ended())
        await stays(train)
        assert await train.heard("shutdown") == []
        await train.workflow.signal("finish")
        await train.kubectl("patch", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')  # the last act
        await goes(train)
    assert await train.runs() == 1


async def test_one_whose_workflow_was_terminated_is_torn_down_and_goes(
    train: Train, apply: Any, job: Any, bridge: Any, clock: Clock
) -> None:
    job["spec"]["ttlSecondsAfterFinished"] = 3600
    async with bridge():
        await apply(job)
        await train.running()
        await train.write_status(ended())
        await train.workflow.terminate()
        clock.passed = 3600
        await train.hears("shutdown")
        assert "deletionTimestamp" in await train.metadata()
        assert await train.runs() == 2


async def test_another_job_of_the_same_name_is_left_alone(
    train: Train, apply: Any, job: Any, bridge: Any, clock: Clock
) -> None:
    await finish(train, apply, job, ttl=3600)
    async with bridge():
        await train.kubectl("delete")
        await apply(job)
        await train.running()
        clock.passed = 3600
        await stays(train)


async def test_the_api_server_lets_the_bridge_delete_no_other_job(
    train: Train, apply: Any, job: Any, installed: None
) -> None:
    job["spec"]["ttlSecondsAfterFinished"] = 0
    await apply(job)
    with pytest.raises(SandboxError, match=r"has ended and has spec\.ttlSeconds"):
        await train.kubectl("delete", AS_BRIDGE)
    await train.write_status(ended())
    await train.kubectl("patch", "--type=merge", "-p", '{"spec": {"ttlSecondsAfterFinished": null}}')
    with pytest.raises(SandboxError, match=r"has ended and has spec\.ttlSeconds"):
        await train.kubectl("delete", AS_BRIDGE)
    await train.kubectl("patch", "--type=merge", "-p", '{"spec": {"ttlSecondsAfterFinished": 0}}')
    await train.kubectl("delete", AS_BRIDGE)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (-1, "spec.ttlSecondsAfterFinished: Invalid value: -1"),
        ("1h", "spec.ttlSecondsAfterFinished: Invalid value"),
        (2**40, "should be less than or equal to 2147483647"),
    ],
)
async def test_a_bad_value_is_refused_by_its_name(apply: Any, job: Any, value: Any, complaint: str) -> None:
    job["spec"]["ttlSecondsAfterFinished"] = value
    with pytest.raises(SandboxError) as refused:
        await apply(job)
    assert complaint in str(refused.value)


def test_what_cannot_be_said_is_not_due() -> None:
    spec = {"ttlSecondsAfterFinished": 60}
    without_time = {"conditions": [{"type": "Completed", "status": "True"}]}
    assert due_at({"spec": spec, "status": without_time}) is None
    late = {"conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": "9999-12-31T23:59:59Z"}]}
    assert due_at({"spec": spec, "status": late}) is None
    assert due_at(json.loads('{"spec": {}, "status": {}}')) is None
