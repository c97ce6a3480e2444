"""All parts of the sandbox together: a VM bought from the emulated cloud becomes a node of the real cluster."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import asyncssh
import pytest
import pytest_asyncio
from light_nodes import eventually

from sandbox.cloud import Cloud
from sandbox.control import ControlClient
from sandbox.processes import leftovers
from sandbox.settings import Settings

ZONE = "us-central1-a"


@pytest_asyncio.fixture
async def cloud(executables: object, tmp_path: Path) -> AsyncIterator[Cloud]:
    async with Cloud(Settings(state_dir=tmp_path, speed=20, node_monitor_grace_period=5)) as cloud:
        yield cloud


async def buy(cloud: Cloud, name: str) -> str:
    """Insert a spot VM with a GPU and wait until it runs; its address."""
    instance = {
        "name": name,
        "machineType": f"zones/{ZONE}/machineTypes/n1-standard-4",
        "disks": [
            {
                "boot": True,
                "autoDelete": True,
                "initializeParams": {"sourceImage": "projects/ubuntu-os-cloud/global/images/family/ubuntu-2204-lts"},
            }
        ],
        "networkInterfaces": [{"network": "global/networks/default"}],
        "scheduling": {"provisioningModel": "SPOT", "onHostMaintenance": "TERMINATE", "automaticRestart": False},
        "guestAccelerators": [
            {"acceleratorType": f"zones/{ZONE}/acceleratorTypes/nvidia-tesla-t4", "acceleratorCount": 1}
        ],
        "metadata": {
            "items": [{"key": "ssh-keys", "value": f"trainer:{cloud.ssh_key.with_suffix('.pub').read_text()}"}]
        },
    }
    url = f"{cloud.gce_endpoint}/compute/v1/projects/outlast-tests/zones/{ZONE}/instances"
    async with aiohttp.ClientSession() as session:
        async with session.post(url, json=instance) as answer:
            assert answer.status == 200, await answer.text()

        async def running() -> str | None:
            async with session.get(f"{url}/{name}") as answer:
                found = await answer.json()
            return found["networkInterfaces"][0]["networkIP"] if found.get("status") == "RUNNING" else None

        return await eventually("the VM runs", running)


async def join(cloud: Cloud, address: str) -> None:
    """Run `kubeadm join` on the VM by SSH, as soon as that answers."""
    assert cloud.control_plane
    token = await cloud.control_plane.create_bootstrap_token()

    async def connected() -> asyncssh.SSHClientConnection | None:
        try:
            return await asyncssh.connect(
                address, cloud.settings.ssh_port, username="trainer", client_keys=[cloud.ssh_key], known_hosts=None
            )
        except (OSError, asyncssh.Error):
            return None

    async with await eventually("sshd answers", connected) as connection:
        joined = await connection.run(
            f"sudo kubeadm join {cloud.control_plane.endpoint} --token {token} "
            f"--discovery-token-ca-cert-hash {cloud.control_plane.pki.ca_hash}"
        )
    assert joined.exit_status == 0, joined.stderr


@pytest.mark.e2e
async def test_a_bought_vm_joins_the_cluster_and_its_node_dies_with_it(cloud: Cloud) -> None:
    assert cloud.control_plane
    kubectl = cloud.control_plane.kubectl
    await join(cloud, await buy(cloud, "worker-1"))

    def ready(status: str) -> Callable[[], Awaitable[bool]]:
        async def check() -> bool:
            path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
            return await kubectl("get", "node", "worker-1", "-o", path) == status

        return check

    await eventually("the node is ready", ready("True"))
    assert await kubectl("get", "node", "worker-1", "-o", r"jsonpath={.status.allocatable.nvidia\.com/gpu}") == "1"
    control = ControlClient.of(cloud.settings)
    assert [vm["name"] for vm in await control.vms()] == ["worker-1"]
    await control.preempt("worker-1", notice=0)
    await eventually("the node is lost", ready("Unknown"))
    assert [event["what"] for event in await control.events()][:3] == ["requested", "running", "notice"]
    await cloud.down()
    assert leftovers(cloud.settings.state_dir) == []
