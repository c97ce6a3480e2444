"""All parts of the sandbox together: a VM bought from the emulated cloud becomes a node of the real cluster."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from sandbox.cloud import Cloud
from sandbox.control import ControlClient
from sandbox.processes import leftovers
from sandbox.settings import Settings
from tests.sandbox.bought import buy, join
from tests.sandbox.light_nodes import condition, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cloud(executables: object, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cloud]:
    """Start one sandbox for all tests here; the last test takes it down."""
    settings = Settings(state_dir=tmp_path_factory.mktemp("cloud"), speed=20, node_monitor_grace_period=5)
    async with Cloud(settings) as cloud:
        yield cloud


async def sandbox(cloud: Cloud, *arguments: str) -> str:
    """Run ``python -m sandbox`` on the cloud, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandbox", "--state", str(cloud.settings.state_dir), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_the_command_line_plays_faults_and_traps(cloud: Cloud) -> None:
    await sandbox(cloud, "fault", "exhaust", "us-central1-a", "at_once=true")
    with pytest.raises(AssertionError, match="ZONE_RESOURCE_POOL_EXHAUSTED"):
        await buy(cloud, "played-1")
    await sandbox(cloud, "fault", "restore_capacity", "zone=us-central1-a")
    await buy(cloud, "played-1")
    await sandbox(cloud, "trap", "stick", "phase=ImagePushing", "count=2", "namespace=team")
    assert cloud.operator
    assert cloud.operator._traps.take("elsewhere", "another") is None
    traps = [cloud.operator._traps.take(uid, "team") for uid in ("first", "second", "third")]
    assert [trap and (trap.kind, trap.phase) for trap in traps] == [("stick", "ImagePushing")] * 2 + [None]


async def test_the_validator_fails_on_the_node_that_is_named_until_it_is_healed(cloud: Cloud) -> None:
    assert cloud.control_plane
    kubectl = cloud.control_plane.kubectl
    await sandbox(cloud, "validator", "fail", "node=worker-1")
    for name in ("worker-1", "worker-2"):
        await join(cloud, await buy(cloud, name))

    def ready_are(*wanted: str) -> Callable[[], Awaitable[bool]]:
        async def check() -> bool:
            query = ("pods", "-n", "kube-system", "-l", "app=nvidia-operator-validator", "-o", "json")
            pods = json.loads(await kubectl("get", *query))["items"]
            running = [pod for pod in pods if condition(pod["status"], "ContainersReady").get("status") == "True"]
            ready = {
                pod["spec"]["nodeName"] for pod in running if condition(pod["status"], "Ready")["status"] == "True"
            }
            return len(running) == 2 and ready == set(wanted)

        return check

    await eventually("the other node's validator is Ready", ready_are("worker-2"))
    await sandbox(cloud, "validator", "heal")
    await eventually("both validators are Ready", ready_are("worker-1", "worker-2"))


async def test_a_bought_vm_joins_the_cluster_and_its_node_dies_with_it(cloud: Cloud) -> None:
    assert cloud.control_plane
    kubectl = cloud.control_plane.kubectl
    control = ControlClient.of(cloud.settings)
    others = [vm["name"] for vm in await control.vms()]  # those of the tests before
    await join(cloud, await buy(cloud, "guest-1"))

    def says(path: str, value: str) -> Callable[[], Awaitable[bool]]:
        async def check() -> bool:
            return await kubectl("get", "node", "guest-1", "-o", f"jsonpath={path}") == value

        return check

    ready = "{.status.conditions[?(@.type=='Ready')].status}"
    await eventually("the node is ready", says(ready, "True"))
    await eventually("the node has its GPU", says(r"{.status.allocatable.nvidia\.com/gpu}", "1"))
    listed = [line.split() for line in (await sandbox(cloud, "vms")).splitlines()]
    assert [line[-2:] for line in listed if "guest-1" in line] == [["guest-1", "Ready"]]
    assert sorted(vm["name"] for vm in await control.vms()) == sorted([*others, "guest-1"])
    before = len(await control.events())
    await control.preempt("guest-1", notice=0)
    await eventually("the node is lost", says(ready, "Unknown"))
    assert [event["what"] for event in await control.events(since=before)][:1] == ["notice"]
    mine = [event["what"] for event in await control.events() if event["name"] == "guest-1"]
    assert mine[:3] == ["requested", "running", "notice"]
    await cloud.down()
    assert leftovers(cloud.settings.state_dir) == []
