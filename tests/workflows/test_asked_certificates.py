"""A Node's kubelet asks for a serving certificate, and its VM's workflow has it answered, whatever else it does."""

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from api import names
from tests.workflows.test_continue_as_new import runs
from tests.workflows.world import RUNNER, World
from workflows.common import continue_as_new as history
from workflows.common import patches
from workflows.vm.certificates import Certificates
from workflows.vm.workflow import SpotVM


async def test_a_request_is_answered_within_seconds_and_again_when_it_is_rotated(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    node = world.node_of(0)
    world.machines.ask_certificate(node)
    await world.until(lambda: world.machines.certificates == [node], within=30)
    world.machines.ask_certificate(node)
    await world.until(lambda: world.machines.certificates == [node, node], within=30)
    assert world.machines.certificates == [node, node]
    await world.pass_time(3600)
    assert world.machines.certificates == [node, node], "nobody asks, nothing is looked at"


async def test_what_cannot_be_answered_now_is_answered_later(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    node = world.node_of(0)
    world.down.add("answer_certificates")
    world.machines.ask_certificate(node)
    await world.pass_time(600)
    assert world.machines.certificates == []
    world.down.clear()
    await world.until(lambda: world.machines.certificates == [node], within=900)
    assert world.phase(0) == "Running"


async def test_a_request_is_not_forgotten_where_the_workflow_goes_on_in_a_new_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    node = world.node_of(0)
    world.down.add("answer_certificates")
    world.machines.ask_certificate(node)
    monkeypatch.setattr(history, "EVENTS", 60)  # more than a run takes to begin
    await world.pass_time(1500)
    assert await runs(world, names.vm_workflow_id(names.vm_key_of(node) or "")) > 1
    world.down.clear()
    await world.until(lambda: world.machines.certificates == [node], within=900)


async def test_a_node_that_goes_gets_none(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    node = world.node_of(0)
    await world.delete()
    await world.ended()
    world.machines.ask_certificate(node)
    await world.env.sleep(60)
    assert world.machines.certificates == []


async def test_what_a_release_before_heard_in_vain_is_replayed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker was rolled back, and the bridge was not. VMs continue once the newer worker is back."""

    async def deaf(_: Certificates) -> None:
        """Ignore the message."""

    monkeypatch.setattr(Certificates, "answer", deaf)
    monkeypatch.setattr(patches, "RELEASES", {})
    await world.submit(replicas=1)
    await world.running(1)
    node = world.node_of(0)
    world.machines.ask_certificate(node)
    await world.pass_time(1500)
    monkeypatch.undo()
    vm = world.env.client.get_workflow_handle(names.vm_workflow_id(names.vm_key_of(node) or ""))
    replayer = Replayer(workflows=[SpotVM], workflow_runner=RUNNER, data_converter=pydantic_data_converter)
    await replayer.replay_workflow(await vm.fetch_history())
