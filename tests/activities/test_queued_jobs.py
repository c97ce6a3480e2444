"""Jobs that a queue holds, on a real control plane: the real Job controller, the real scheduler."""

from typing import Any

import pytest

from activities.documents.activities import SpecActivities
from activities.replicas.activities import ReplicaActivities
from activities.signatures import Hold
from api import names
from api.queues import QUEUE_LABEL
from api.timings import Timings
from api.views import ReplicaView
from clients.kube import Kube, path
from sandbox.errors import SandboxError
from tests import kueue
from tests.activities.world import LENT, World, eventually, run, training
from tests.sandbox.light_nodes import Nodes

PLACE = "0a1b2c3d-r0-i1"


@pytest.fixture
def specs(kube: Kube) -> SpecActivities:
    return SpecActivities(kube, Timings(), grants=LENT)


@pytest.fixture
def replicas(kube: Kube, namespace: str) -> ReplicaActivities:
    return ReplicaActivities(kube, namespace)


async def hold(world: World, specs: SpecActivities) -> Hold | None:
    document = await run(specs.load_job, world.job)
    assert document.problems == []
    found: Hold | None = document.hold
    return found


async def test_a_job_that_nobody_holds_is_known_as_that(world: World, specs: SpecActivities) -> None:
    assert await hold(world, specs) is None


async def test_a_queue_is_known_by_the_jobs_own_label(world: World, specs: SpecActivities) -> None:
    await world.kube.patch(world.job_path, {"metadata": {"labels": {QUEUE_LABEL: "research", "team": "a"}}})
    told = await hold(world, specs)
    assert told == Hold(by="queue research", labels={QUEUE_LABEL: "research"}, served=False), "there is no Kueue"


async def test_a_webhook_that_suspends_every_job_is_known_before_there_is_one(
    world: World, specs: SpecActivities, control_plane: Any
) -> None:
    async with kueue.webhook(control_plane.kubectl, world.job.namespace, kueue.EVERY_JOB):
        found = await eventually("the webhook is in force", lambda: hold(world, specs))
    assert found == Hold(by="an admission webhook")


async def test_a_job_that_queues_waits_for_whatever_bears_the_label_of_its_place(
    world: World, replicas: ReplicaActivities, nodes: Nodes, control_plane: Any
) -> None:
    node = await nodes.start()
    template = {"metadata": {"labels": {QUEUE_LABEL: "research"}}, **training()}
    view = await run(replicas.create_replica, world.create_replica(place=PLACE, suspended=True, job_template=template))
    assert (view.suspended, view.queue, view.suspended_by, view.pod) == (True, "research", None, None)
    await kueue.admit(control_plane.kubectl, world.job.namespace, view.job_name)

    async def waits() -> ReplicaView | None:
        seen: ReplicaView = await run(replicas.observe_replica, world.replica())
        return seen if seen.pod is not None and seen.pod.waiting_reason == "Unschedulable" else None

    assert not (await eventually("its pod waits", waits)).suspended
    await world.kube.patch(path("v1", "nodes", name=node), {"metadata": {"labels": {names.LABEL_PLACE: PLACE}}})
    running = await world.running(replicas.observe_replica, world.replica())
    assert running.pod is not None
    assert running.pod.node == node
    await kueue.preempt(control_plane.kubectl, world.job.namespace, view.job_name)

    async def stopped() -> ReplicaView | None:
        seen: ReplicaView = await run(replicas.observe_replica, world.replica())
        return seen if seen.suspended and seen.pod is None else None

    preempted = await eventually("its pod is taken away", stopped)
    assert (preempted.suspended_by, preempted.job_failed, preempted.job_exists) == ("kueue", None, True)


async def test_a_pod_that_scheduling_gates_hold_says_so(world: World, replicas: ReplicaActivities) -> None:
    template = training()
    template["spec"]["template"]["spec"]["schedulingGates"] = [{"name": "example.com/quota"}]
    await run(replicas.create_replica, world.create_replica(place=PLACE, job_template=template))

    async def gated() -> bool:
        seen: ReplicaView = await run(replicas.observe_replica, world.replica())
        return seen.pod is not None and seen.pod.waiting_reason == "SchedulingGated"

    await eventually("its pod is gated", gated)


async def test_no_kubelet_may_draw_a_queued_job_to_its_node(control_plane: Any, nodes: Nodes) -> None:
    """NodeRestriction keeps the prefix from kubelets. The hostname is theirs to set."""
    node = await nodes.start()
    as_node = (f"--as=system:node:{node}", "--as-group=system:nodes", "--as-group=system:authenticated")
    await control_plane.kubectl("label", "node", node, "example.com/mine=1", *as_node)
    with pytest.raises(SandboxError, match="node-restriction"):
        await control_plane.kubectl("label", "node", node, f"{names.LABEL_PLACE}={PLACE}", *as_node)
