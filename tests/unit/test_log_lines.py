"""What a program logs: lines for people, or JSON that says of each line which job, replica and VM it is about."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.log_context import LogContext, named_in
from activities.signatures import CheckpointRef, JobRef, NodeRef, ReplicaRef, VmRef
from api.log_context import about, fields
from crd_bridge.queues import Queues
from programs import logs
from tests.bridge.recorder import eventually

JOB = JobRef(namespace="team", name="llm", uid="u", job_id="0123abcd")
KEY = "0123abcd-r1-v2"
log = logging.getLogger("tests.logs")


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """Log JSON, and collect it."""
    handler, said = logs.handler({"OUTLAST_LOG_FORMAT": "json"}), io.StringIO()
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(said)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield said
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def lines(said: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.getvalue().splitlines()]


def test_a_line_is_json_with_its_moment_and_its_error(said: io.StringIO) -> None:
    try:
        raise OSError("away")
    except OSError:
        log.warning("%s is\nstrange", "é", exc_info=True)
    (line,) = lines(said)
    assert (line["level"], line["logger"], line["message"]) == ("WARNING", "tests.logs", "é is\nstrange")
    assert line["time"].endswith("+00:00")
    assert line["exception"].endswith("OSError: away")


async def test_what_is_said_of_a_task_is_no_others(said: io.StringIO) -> None:
    async def work(replica: int) -> None:
        about(job="team/llm", replica=replica, vm=None)
        await asyncio.sleep(0)
        await asyncio.create_task(beside())

    async def beside() -> None:
        log.info("beside")

    await asyncio.gather(work(0), work(1))
    assert [line["replica"] for line in lines(said)] == [0, 1]
    assert all(line["job"] == "team/llm" and "vm" not in line for line in lines(said))
    assert fields() == {}


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        (ReplicaRef(job=JOB, replica=1, incarnation=0), {"job": "team/llm", "job_id": "0123abcd", "replica": 1}),
        (CheckpointRef(job=JOB, number=1, containers=[]), {"job": "team/llm", "job_id": "0123abcd"}),
        (VmRef(project="p", zone="z", name="outlast-a", namespace="team"), {"vm": "outlast-a"}),
        (NodeRef(name="gpu-1"), {"vm": "gpu-1"}),
        (None, {}),
    ],
    ids=["replica", "checkpoint", "vm", "node", "nothing"],
)
def test_an_activitys_input_says_what_it_is_about(request_: Any, found: dict[str, Any]) -> None:
    assert named_in(request_) == found


async def test_each_line_of_an_activity_says_what_it_is_about(said: io.StringIO) -> None:
    class Last(ActivityInboundInterceptor):
        def __init__(self) -> None:
            """Ends the chain."""

        async def execute_activity(self, input: ExecuteActivityInput) -> Any:
            log.info("in a client")

    async def run() -> None:
        given = ExecuteActivityInput(fn=run, args=[NodeRef(name="gpu-1")], executor=None, headers={})
        await LogContext().intercept_activity(Last()).execute_activity(given)

    environment = ActivityEnvironment()
    environment.info = ActivityEnvironment.default_info()
    await environment.run(run)
    (line,) = lines(said)
    assert line["vm"] == "gpu-1"


async def test_each_line_of_the_bridges_work_says_what_it_is_about(said: io.StringIO) -> None:
    queues = Queues()
    failed = asyncio.Event()

    async def work() -> None:
        if not failed.is_set():
            failed.set()
            raise OSError("away")

    queues.put(("notice", "gpu-1", "team/llm"), work, urgent=True)

    async def done() -> bool:
        return queues.idle

    await eventually(done, "the work is done")
    (line,) = lines(said)
    assert (line["job"], line["vm"], line["level"]) == ("team/llm", "gpu-1", "WARNING")


@pytest.mark.parametrize(("chosen", "code"), [("", 0), ("text", 0), ("json", 0), ("xml", 1)])
def test_a_program_logs_as_it_is_told(chosen: str, code: int) -> None:
    program = (
        "import logging, sys; from programs import frame; sys.exit(frame.run('p', lambda: logging.info('hi'), ()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env={"OUTLAST_LOG_FORMAT": chosen}
    )
    assert ended.returncode == code
    if code:
        assert ended.stderr == "p: OUTLAST_LOG_FORMAT='xml' is neither text nor json\n"
    elif chosen == "json":
        assert json.loads(ended.stderr)["message"] == "hi"
    else:
        assert ended.stderr.endswith(" INFO root: hi\n")
