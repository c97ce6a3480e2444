"""Each SpotInstanceJob object has one workflow, once in its life: on a real API server and a real Temporal service."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from api import names
from api.messages import JobStart
from crd_bridge.bridge import Bridge
from crd_bridge.jobs import Jobs
from crd_bridge.queues import Queues
from crd_bridge.temporal import Gateway, Run
from tests.bridge.proxy import proxied
from tests.bridge.recorder import eventually, heard

QUIET = 1.5  # seconds in which something that must not happen would have happened


class Train:
    """The job ``train`` of a test: the object as kubectl sees it, and the workflow under its id."""

    def __init__(self, control_plane: Any, namespace: str, client: Client) -> None:
        self.namespace = namespace
        self.workflow_id = f"{namespace}/train"
        self._control_plane = control_plane
        self._client = client

    async def kubectl(self, verb: str, *arguments: str) -> str:
        return str(await self._control_plane.kubectl(verb, "sij", "train", "-n", self.namespace, *arguments))

    async def metadata(self) -> Any:
        return json.loads(await self.kubectl("get", "-o", "json"))["metadata"]

    async def write_status(self, status: dict[str, Any]) -> None:
        await self.kubectl("patch", "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))

    @property
    def workflow(self) -> Any:
        """Return a handle of the latest run."""
        return self._client.get_workflow_handle(self.workflow_id)

    async def begin(self, uid: str) -> Any:
        """Begin a run for an object with this uid, as a bridge would have started it."""
        start = JobStart(namespace=self.namespace, name="train", uid=uid, cluster_id="this-cluster", job_id="00000000")
        return await self._client.start_workflow(
            names.JOB_WORKFLOW, start, id=self.workflow_id, task_queue=names.TASK_QUEUE, memo={"uid": uid}
        )

    async def running(self) -> Any:
        """Return the description of the run, once it is open."""

        async def look() -> Any:
            found = await self.workflow.describe()
            return found if found.status == WorkflowExecutionStatus.RUNNING else None

        return await eventually(look, f"{self.workflow_id} runs")

    async def runs(self) -> int:
        """Count the runs."""
        return (await self._client.count_workflows(f"WorkflowId = '{self.workflow_id}'")).count

    async def never_ran(self) -> None:
        with pytest.raises(RPCError, match="not found"):
            await self.workflow.describe()

    async def heard(self, signal: str) -> list[dict[str, Any]]:
        return await heard(self._client, self.workflow_id, signal)

    async def hears(self, signal: str) -> list[dict[str, Any]]:
        """Wait until it has received this signal, and return its messages."""
        told: list[dict[str, Any]] = await eventually(lambda: self.heard(signal), f"{signal} is told")
        return told


@pytest.fixture
def train(control_plane: Any, namespace: str, client: Client) -> Train:
    return Train(control_plane, namespace, client)


async def test_a_new_job_gets_its_finalizer_and_its_workflow(
    train: Train, apply: Any, job: Any, bridge: Any, client: Client
) -> None:
    async with bridge():
        await apply(job)
        found = await train.running()
    uid = (await train.metadata())["uid"]
    assert (await train.metadata())["finalizers"] == [names.FINALIZER]
    assert found.workflow_type == "SpotInstanceJob"
    assert found.task_queue == names.TASK_QUEUE
    assert found.raw_description.workflow_execution_info.priority.fairness_key == train.namespace
    assert (await found.memo())["uid"] == uid
    assert uid in await found.static_summary()
    history = await train.workflow.fetch_history()
    given = history.events[0].workflow_execution_started_event_attributes.input.payloads
    (start,) = await client.data_converter.decode(given, [JobStart])
    assert start == JobStart(
        namespace=train.namespace,
        name="train",
        uid=uid,
        cluster_id="this-cluster",
        job_id=names.job_id("this-cluster", uid),
    )


async def test_the_finalizer_of_others_stays(train: Train, apply: Any, job: Any, bridge: Any) -> None:
    job["metadata"]["finalizers"] = ["example.com/mine"]
    async with bridge():
        await apply(job)
        await train.running()
    assert (await train.metadata())["finalizers"] == ["example.com/mine", names.FINALIZER]


async def test_an_edit_is_told_once_and_a_status_not_at_all(train: Train, apply: Any, job: Any, bridge: Any) -> None:
    async with bridge():
        await apply(job)
        await train.running()
        await train.kubectl("scale", "--replicas=3")
        await train.hears("spec_changed")
        await train.write_status({"activeReplicas": 1})
        await asyncio.sleep(QUIET)
    told = await train.heard("spec_changed")
    assert [message["generation"] for message in told] == [2]


async def test_an_edit_while_the_bridge_was_away_is_told(train: Train, apply: Any, job: Any, bridge: Any) -> None:
    async with bridge():
        await apply(job)
        await train.running()
    await train.kubectl("scale", "--replicas=1")
    async with bridge():
        told = await train.hears("spec_changed")
    assert told[-1]["generation"] == 2


async def test_a_finished_job_never_starts_again(train: Train, apply: Any, job: Any, bridge: Any) -> None:
    async with bridge():
        await apply(job)
        await train.running()
        await train.workflow.signal("finish")
        await train.workflow.result()
    async with bridge():
        job["spec"]["replicas"] = 1
        await apply(job)
        await asyncio.sleep(QUIET)
    assert await train.runs() == 1


@pytest.mark.parametrize("condition", ["Completed", "Failed"])
async def test_a_job_that_its_status_says_is_over_is_not_started(
    train: Train, apply: Any, job: Any, bridge: Any, condition: str
) -> None:
    await apply(job)
    await train.write_status({"conditions": [{"type": condition, "status": "True", "reason": "TrainingDone"}]})
    async with bridge():
        await asyncio.sleep(QUIET)
    await train.never_ran()


async def test_two_bridges_at_once_start_one_workflow(train: Train, apply: Any, job: Any, bridge: Any) -> None:
    """For a moment both may act: the one that was delayed, and the one that has taken its Lease."""
    async with bridge(), bridge():
        await apply(job)
        await train.running()
        await train.kubectl("scale", "--replicas=3")

        async def scaled() -> bool:
            # The bridge that finds the other one's workflow reports generation 1, which the workflow knows.
            return 2 in {message["generation"] for message in await train.heard("spec_changed")}

        await eventually(scaled, "the other number of replicas is told")
        await train.kubectl("delete", "--wait=false")
        await train.hears("shutdown")
        await asyncio.sleep(QUIET)
    assert await train.runs() == 1


async def test_a_bridge_that_was_held_up_does_not_start_what_another_one_saw_end(
    train: Train, apply: Any, job: Any, cluster: Any, recording: Client
) -> None:
    """It has read that there is no workflow. Before it starts one, another bridge does, and the training ends."""
    held_up = asyncio.Event()

    class HeldUp(Gateway):
        async def latest(self, workflow_id: str) -> Run | None:
            found = await super().latest(workflow_id)
            if not held_up.is_set():
                held_up.set()
                await train.begin(uid=(await train.metadata())["uid"])
                await train.workflow.signal("finish")
                await train.workflow.result()
                condition = {"type": "Completed", "status": "True", "reason": "TrainingDone"}
                await train.write_status({"conditions": [condition]})
            return found

    await apply(job)
    queues = Queues()
    jobs = Jobs(cluster, HeldUp(recording), queues, "this-cluster")
    jobs.changed(f"{train.namespace}/train", json.loads(await train.kubectl("get", "-o", "json")), 1)
    await asyncio.wait_for(held_up.wait(), 60)
    await asyncio.sleep(QUIET)
    await queues.close()
    assert await train.runs() == 1


async def test_a_job_created_again_starts_once_its_predecessor_has_ended(
    train: Train, apply: Any, job: Any, bridge: Any
) -> None:
    old = await train.begin(uid="an-earlier-object")
    async with bridge():
        await apply(job)
        await asyncio.sleep(QUIET)
        assert (await train.workflow.describe()).run_id == old.result_run_id
        assert await train.heard("spec_changed") == []
        await old.signal("finish")

        async def successor() -> Any:
            found = await train.workflow.describe()
            return found if found.run_id != old.result_run_id else None

        found = await eventually(successor, "the new object's workflow starts")
    assert (await found.memo())["uid"] == (await train.metadata())["uid"]


async def test_a_deletion_is_told_to_the_workflow(train: Train, apply: Any, job: Any, bridge: Any) -> None:
    async with bridge():
        await apply(job)
        run = await train.running()
        uid = (await train.metadata())["uid"]
        await train.kubectl("delete", "--wait=false")
        told = await train.hears("shutdown")
        # What its teardown writes into the object is no news to it.
        await train.write_status({"activeReplicas": 0})
        await asyncio.sleep(QUIET)
    assert [message["uid"] for message in told] == [uid]
    assert (await train.running()).run_id == run.run_id
    assert len(await train.heard("shutdown")) == 1


async def test_a_deletion_finds_a_new_workflow_where_the_old_one_was_terminated(
    train: Train, apply: Any, job: Any, bridge: Any
) -> None:
    async with bridge():
        await apply(job)
        first = await train.running()
        await train.workflow.terminate("by a person")
        await asyncio.sleep(QUIET)
        assert await train.runs() == 1
        await train.kubectl("delete", "--wait=false")
        await train.hears("shutdown")
    assert (await train.running()).run_id != first.run_id


async def test_a_deletion_without_our_finalizer_starts_nothing(train: Train, apply: Any, job: Any, bridge: Any) -> None:
    job["metadata"]["finalizers"] = ["example.com/mine"]
    await apply(job)
    await train.kubectl("delete", "--wait=false")
    async with bridge():
        await asyncio.sleep(QUIET)
    await train.never_ran()


async def test_an_object_that_vanishes_by_force_ends_its_workflow(
    train: Train, apply: Any, job: Any, bridge: Any
) -> None:
    async with bridge():
        await apply(job)
        await train.running()
        patch = json.dumps({"metadata": {"finalizers": None}})
        await train.kubectl("patch", "--type=merge", "-p", patch)
        await train.kubectl("delete")
        told = await train.hears("shutdown")
    assert [message["reason"] for message in told] == ["Gone"]


async def test_an_edit_of_the_vm_is_told_to_the_jobs_that_name_it(
    train: Train, apply: Any, job: Any, vm: Any, bridge: Any
) -> None:
    await apply(vm)
    async with bridge():
        await apply(job)
        await train.running()
        vm["spec"]["gcp"]["machineType"] = "n1-standard-8"
        await apply(vm)
        told = await train.hears("spec_changed")
    assert [(message["generation"], message["vmGeneration"]) for message in told] == [(1, 2)]


async def test_an_edit_of_the_vm_while_the_bridge_was_away_is_told(
    train: Train, apply: Any, job: Any, vm: Any, bridge: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the list of all jobs takes, from which the bridge knows who buys by it."""
    await apply(vm)
    async with bridge() as first:
        await apply(job)
        await train.running()
        await asyncio.sleep(QUIET)
    vm["spec"]["gcp"]["machineType"] = "n1-standard-8"
    await apply(vm)
    pages = cluster.pages

    async def slow(where: str, **query: Any) -> AsyncGenerator[Any, None]:
        if where.endswith(f"/{names.JOB_PLURAL}"):
            await asyncio.sleep(QUIET)
        async for page in pages(where, **query):
            yield page

    monkeypatch.setattr(cluster, "pages", slow)
    async with bridge(first.reported):

        async def told() -> bool:
            return 2 in {message.get("vmGeneration") for message in await train.heard("spec_changed")}

        await eventually(told, "the edit of the VM is told")


async def test_a_job_waits_until_temporal_is_back(
    train: Train, apply: Any, job: Any, cluster: Any, recording: Client, temporal: Any
) -> None:
    async with proxied(temporal.address) as proxy:
        client = await Client.connect(proxy.address, data_converter=pydantic_data_converter)
        task = asyncio.create_task(Bridge(cluster, client, "this-cluster").run())
        await proxy.close()
        await apply(job)
        await asyncio.sleep(QUIET)
        await proxy.open()
        await train.running()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_request_is_told_until_the_status_answers_it(train: Train, apply: Any, job: Any, bridge: Any) -> None:
    async def told(times: int) -> bool:
        return len(await train.heard("request_changed")) == times

    async with bridge():
        await apply(job)
        await train.running()
        await train.kubectl("annotate", f"{names.ANNOTATION_REQUEST}=checkpoint-now 1")
        await eventually(lambda: told(1), "the request is told")
        await train.kubectl("label", "touched=yes")
        await asyncio.sleep(QUIET)
    assert await told(1)
    async with bridge():  # which only knows that it gets no answer
        await eventually(lambda: told(2), "the request is told again")
        await train.write_status({"request": {"value": "checkpoint-now 1", "state": "Done"}})
        await asyncio.sleep(QUIET)
    async with bridge():
        await asyncio.sleep(QUIET)
        assert await told(2)
        await train.kubectl("annotate", "--overwrite", f"{names.ANNOTATION_REQUEST}=checkpoint-now 2")
        await eventually(lambda: told(3), "the second request is told")
    assert (await train.heard("request_changed"))[-1] == {"uid": (await train.metadata())["uid"]}
