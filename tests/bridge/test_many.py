"""Many jobs: what a bridge that starts again reports of them, in which order, and what it keeps of each."""

import asyncio
import time
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from api import names
from crd_bridge import nodes, pods
from crd_bridge.checkpoints import Checkpoints
from crd_bridge.jobs import Jobs
from crd_bridge.nodes import Nodes
from crd_bridge.pods import Replicas
from crd_bridge.queues import Queues
from crd_bridge.reported import NOTHING, Reported
from crd_bridge.temporal import Run
from tests.bridge.recorder import eventually

Json = dict[str, Any]

ALL = Reported(dict.fromkeys([nodes.PLURAL, pods.PODS, pods.JOBS, names.CHECKPOINT_PLURAL], 1000))
KILOBYTES = 20
JOBS = 200


@dataclass
class Temporal:
    """Stands for the gateway. All workflows are open, and what it receives is written down in order."""

    told: list[tuple[str, str]] = field(default_factory=list)
    asked: int = 0

    async def signal(self, workflow: str, signal: str, message: object) -> bool:
        await asyncio.sleep(0)
        self.told.append((signal, workflow))
        return True

    async def latest(self, workflow: str) -> Run:
        await asyncio.sleep(0)
        self.asked += 1
        return Run("run", open=True, uid=f"uid {workflow}")


class Handlers:
    """A bridge without watches; objects are shown to it as a list would."""

    def __init__(self, reported: Reported) -> None:
        self.temporal: Any = Temporal()
        self.queues = Queues()
        self.jobs = Jobs(None, self.temporal, self.queues, "cluster")  # type: ignore[arg-type]
        self.nodes = Nodes(self.temporal, self.queues, reported)
        self.nodes.replicas = self.replicas = Replicas(self.temporal, self.queues, self.nodes.tell, reported)
        self.checkpoints = Checkpoints(self.temporal, self.queues, reported)

    def show(self, number: int) -> None:
        """Show one job of two replicas on bought nodes, with three checkpoints, that all changed long ago."""
        self.jobs.changed(f"team/job-{number}", job(number), 100)
        for replica in range(2):
            self.nodes.changed(node_name(number, replica), node(number, replica), 100)
            self.show_pod(number, replica, 100)
            made = job_of(number, replica)
            self.replicas.job_changed(f"team/{made['metadata']['name']}", made, 100)
        for each in range(3):
            backup = checkpoint(number, each)
            self.checkpoints.changed(f"team/{backup['metadata']['name']}", backup, 100)

    def show_pod(self, number: int, replica: int, version: int, **status: Any) -> None:
        self.replicas.pod_changed(f"team/pod-{number}-{replica}", pod(number, replica, **status), version)

    async def all_said(self) -> Counter[str]:
        """Wait until nothing is left to report, and count the messages by signal."""

        async def silent() -> bool:
            return self.queues.idle

        await eventually(silent, "all messages to be sent")
        return Counter(signal for signal, _ in self.temporal.told)


def metadata(number: int, name: str, **more: Any) -> Json:
    labels = {names.LABEL_JOB: f"{number:08x}", **more.pop("labels", {})}
    annotations = {names.ANNOTATION_WORKFLOW: f"team/job-{number}"}
    ours = {"name": name, "namespace": "team", "uid": f"uid {name}", "creationTimestamp": "2026-11-29T23:00:00Z"}
    return {**ours, "labels": labels, "annotations": annotations, **more}


def job(number: int, vm: str = "t4") -> Json:
    own = {"namespace": "team", "name": f"job-{number}", "uid": f"uid team/job-{number}", "generation": 1}
    spec, status = {"spotInstanceVMRef": {"name": vm}}, {"observedGeneration": 1}
    return {"metadata": {**own, "finalizers": [names.FINALIZER]}, "spec": spec, "status": status}


def node_name(number: int, replica: int) -> str:
    return names.vm_name(names.vm_key(f"{number:08x}", replica, 1), 1)


def node(number: int, replica: int, *taints: Json) -> Json:
    status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {names.GPU_RESOURCE: "1"}}
    own = metadata(number, node_name(number, replica))
    return {"metadata": own, "spec": {"taints": list(taints)}, "status": status}


def labels(replica: int) -> Json:
    return {names.LABEL_REPLICA: str(replica), names.LABEL_INCARNATION: "0"}


def pod(number: int, replica: int, **status: Any) -> Json:
    own = metadata(number, f"pod-{number}-{replica}", labels=labels(replica))
    began = {"running": {"startedAt": "2026-11-29T23:00:01Z"}}
    runs = {"phase": "Running", "containerStatuses": [{"name": "train", "state": began}]}
    return {"metadata": own, "spec": {"nodeName": node_name(number, replica)}, "status": runs | status}


def job_of(number: int, replica: int) -> Json:
    own = metadata(number, f"job-{number}-r{replica}", labels=labels(replica))
    return {"metadata": own, "spec": {}, "status": {"active": 1}}


def checkpoint(number: int, each: int) -> Json:
    status = {"phase": "Completed", "builtImages": [{"containerName": "train", "imageName": "a/b:c", "pushed": True}]}
    own = metadata(number, f"job-{number}-c{each}")
    return {"metadata": own, "spec": {"registry": {"url": "https://registry"}}, "status": status}


NOTICE = {"key": names.TAINT_PREEMPTED, "effect": "NoSchedule", "value": ""}


@pytest.fixture
async def again() -> Handlers:
    """Make a bridge that starts after another one had reported everything."""
    handlers = Handlers(ALL)
    for number in range(JOBS):
        handlers.show(number)
    return handlers


async def test_a_bridge_that_knows_nothing_reports_everything_once() -> None:
    handlers = Handlers(NOTHING)
    for number in range(JOBS):
        handlers.show(number)
    said = await handlers.all_said()
    assert said == {"node_changed": 4 * JOBS, "replica_changed": 2 * JOBS, "checkpoint_changed": 3 * JOBS}


async def test_of_what_did_not_change_nothing_is_said(again: Handlers) -> None:
    assert await again.all_said() == {}


async def test_in_whatever_order_the_lists_come_nothing_is_said_of_what_did_not_change() -> None:
    handlers = Handlers(ALL)
    made = job_of(0, 1)
    handlers.replicas.job_changed("team/job-0-r1", made, 100)
    handlers.show_pod(0, 1, 100)
    handlers.nodes.changed(node_name(0, 1), node(0, 1, NOTICE), 100)
    assert await handlers.all_said() == {}


async def test_a_mark_that_came_meanwhile_is_a_notice(again: Handlers) -> None:
    again.nodes.changed(node_name(7, 1), node(7, 1, NOTICE), 1001)
    assert await again.all_said() == {"preemption_notice": 1, "node_changed": 1}
    assert again.temporal.told[0] == ("preemption_notice", "team/job-7")


async def test_a_pod_that_came_meanwhile_hears_of_its_node_and_of_the_mark_there() -> None:
    handlers = Handlers(ALL)
    handlers.nodes.changed("gpu-1", node(0, 0, NOTICE) | {"metadata": {"name": "gpu-1", "uid": "uid gpu-1"}}, 100)
    made = pod(0, 0)
    made["spec"]["nodeName"] = "gpu-1"
    handlers.replicas.job_changed("team/job-0-r0", job_of(0, 0), 100)
    handlers.replicas.pod_changed("team/pod-0-0", made, 1001)
    assert await handlers.all_said() == {"preemption_notice": 1, "replica_changed": 1}


async def test_what_changes_later_is_reported(again: Handlers) -> None:
    await again.all_said()
    again.show_pod(3, 0, 1002, phase="Succeeded")
    again.nodes.changed(node_name(4, 0), None, 1003)
    ended = checkpoint(5, 9)
    again.checkpoints.changed("team/job-5-c9", ended, 1004)
    said = await again.all_said()
    assert said == {"replica_changed": 1, "node_changed": 2, "checkpoint_changed": 1}


async def test_notices_are_told_before_all_else() -> None:
    handlers = Handlers(NOTHING)
    for number in range(JOBS):
        handlers.show(number)
    for number in range(0, JOBS, 10):
        handlers.nodes.changed(node_name(number, 0), node(number, 0, NOTICE), 101)
    await handlers.all_said()
    last = max(at for at, (signal, _) in enumerate(handlers.temporal.told) if signal == "preemption_notice")
    assert last < JOBS / 10 + handlers.queues.room.any


async def test_little_is_kept_of_each_job() -> None:
    tracemalloc.start()
    try:
        handlers = Handlers(NOTHING)
        handlers.show(JOBS)  # what all jobs share
        before, _ = tracemalloc.get_traced_memory()
        for number in range(JOBS):
            handlers.show(number)
        await handlers.all_said()
        handlers.temporal.told.clear()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / JOBS < KILOBYTES * 1024


async def test_the_jobs_of_a_vm_are_found_without_a_search() -> None:
    """After an upgrade each of 10,000 SpotInstanceVMs is reported to the jobs that name it."""
    handlers = Handlers(NOTHING)
    for number in range(5000):
        handlers.jobs.changed(f"team/job-{number}", job(number, f"vm-{number}"), 100)
    began = time.process_time()
    found = [handlers.jobs.naming("team", f"vm-{number}") for number in range(2000)]
    took = time.process_time() - began
    await handlers.queues.close()
    assert [each.name for (each,) in found] == [f"job-{number}" for number in range(2000)]
    assert took < 0.3


async def test_a_vm_is_named_by_the_jobs_that_exist_and_name_it_now() -> None:
    jobs = Handlers(NOTHING).jobs

    def named(vm: str, namespace: str = "team") -> list[str]:
        return [each.name for each in jobs.naming(namespace, vm)]

    for number in range(3):
        jobs.changed(f"team/job-{number}", job(number), 100)
    assert named("t4") == ["job-0", "job-1", "job-2"]
    assert named("t4", "other") == []
    jobs.changed("team/job-1", job(1, "l4"), 101)
    jobs.changed("team/job-2", None, 102)
    assert (named("t4"), named("l4")) == (["job-0"], ["job-1"])
