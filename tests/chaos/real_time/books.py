"""What must have been true in a run, by the cloud's ledger, the cluster's watches and whatever was written."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC
from typing import Any

from temporalio.client import Client

from activities.signatures import CREATE_REPLICA, PIN_IMAGES
from sandbox.demo.observer import LABEL_REPLICA
from tests.chaos.real_time.house import House
from tests.e2e.rig import Running


def machines(house: House, job: str) -> Iterator[str]:
    """Check that there was at most one VM at once for a place, and none that outlived the job."""
    alive: Counter[str] = Counter()
    for event in house.observer.ledger:
        found = re.match(rf"^outlast-({job}-r\d+-v\d+)-t\d+$", event["name"])
        if not found:
            continue
        if event["what"] == "requested":
            alive[found[1]] += 1
        if event["what"] in {"deleted", "failed"}:
            alive[found[1]] -= 1
        if alive[found[1]] > 1:
            yield f"two machines at once for {found[1]}"
    yield from (f"a machine of {key} outlived its job" for key, count in alive.items() if count > 0)


def pods(house: House, job: Running) -> Iterator[str]:
    """Check that there was at most one running pod for a replica, on machines that run."""
    running: dict[str, set[str]] = {}
    gone = {each["name"]: each["time"] for each in house.observer.ledger if each["what"] in {"preempted", "deleted"}}
    for change in house.observer.history:
        metadata = change.object["metadata"]
        replica = metadata.get("labels", {}).get(LABEL_REPLICA)
        if change.kind != "pods" or replica is None or metadata["namespace"] != job.namespace:
            continue
        mine = running.setdefault(replica, set())
        runs = change.type != "DELETED" and change.object["status"].get("phase") == "Running"
        node = change.object["spec"].get("nodeName", "")
        if runs and gone.get(node, change.at + 1) > change.at:
            mine.add(f"{metadata['name']} on {node}")
        else:
            mine.discard(f"{metadata['name']} on {node}")
        mine -= {each for each in mine if gone.get(each.partition(" on ")[2], change.at + 1) <= change.at}
        if len(mine) > 1:
            yield f"replica {replica} ran twice at once: {', '.join(sorted(mine))}"


async def restores(house: House, job: Running) -> list[str]:
    """Check that no incarnation started behind the furthest image whose digest its job knew when it chose."""
    known: list[tuple[float, float]] = []  # since when, and its progress
    chosen: dict[tuple[int, int], float] = {}  # by replica and incarnation
    async for asked, at, ended in _calls(house, job):
        request = json.loads(asked.input.payloads[0].data)
        if asked.activity_type.name == PIN_IMAGES.name and ended:
            known.append((ended, request["point"]["progress"]))
        if asked.activity_type.name == CREATE_REPLICA.name:
            chosen.setdefault((request["replica"], request["incarnation"]), at)
    found = list[str]()
    for training in job.trainings.of(job.id):
        at = chosen.get((training.replica, training.incarnation), 0)
        furthest = max((progress for since, progress in known if since < at), default=0)
        if training.incarnation and training.first is not None and training.first < furthest:
            found.append(f"{training.pod} began after step {training.first}, though an image held {furthest:.0f}")
    return found


async def _calls(house: House, job: Running) -> AsyncIterator[tuple[Any, float, float | None]]:
    """List the activities of a job's workflow: what was asked, when, and when they had succeeded."""
    client = await Client.connect(house.addresses["TEMPORAL_ADDRESS"])
    async for run in client.list_workflows(f"WorkflowId = '{job.namespace}/{job.name}'"):
        events = (await client.get_workflow_handle(run.id, run_id=run.run_id).fetch_history()).events
        times = {event.event_id: event.event_time.ToDatetime(UTC).timestamp() for event in events}
        ended = {
            event.activity_task_completed_event_attributes.scheduled_event_id: times[event.event_id]
            for event in events
            if event.HasField("activity_task_completed_event_attributes")
        }
        for event in events:
            if event.HasField("activity_task_scheduled_event_attributes"):
                asked = event.activity_task_scheduled_event_attributes
                yield asked, times[event.event_id], ended.get(event.event_id)


async def credentials(house: House) -> list[str]:
    """Check that none of the credentials is in any history, log, status or Event."""
    key = house.cloud.ssh_key.read_text().splitlines()[1]
    words = [each.encode() for each in (house.password, b64encode(house.password.encode()).decode(), key)]
    written = {name: (house.settings.logs / f"{name}.log").read_bytes() for name in house.parts}
    written["a status or an Event"] = json.dumps([change.object for change in house.observer.history]).encode()
    client = await Client.connect(house.addresses["TEMPORAL_ADDRESS"])
    async for execution in client.list_workflows():
        history = await client.get_workflow_handle(execution.id, run_id=execution.run_id).fetch_history()
        written[execution.id] = b"".join(event.SerializeToString() for event in history.events)
    return [f"a credential is in {place}" for place, text in written.items() if any(word in text for word in words)]
