"""Buy VMs from a sandbox's emulated cloud and join them to its cluster, as a user without Outlast would do it."""

from __future__ import annotations

import aiohttp
import asyncssh

from sandbox.cloud import Cloud
from tests import vms
from tests.sandbox.light_nodes import eventually


async def buy(cloud: Cloud, name: str) -> str:
    """Insert a spot VM with a GPU, wait until it runs, and return its address."""
    assert cloud.gce_endpoint
    public = cloud.ssh_key.with_suffix(".pub").read_text()
    await vms.insert(cloud.gce_endpoint, name, {"ssh-keys": f"trainer:{public}"}, gpus=1)
    async with aiohttp.ClientSession(cloud.gce_endpoint) as session:

        async def running() -> str | None:
            async with session.get(f"{vms.INSTANCES}/{name}") as answer:
                found = await answer.json()
            return found["networkInterfaces"][0]["networkIP"] if found.get("status") == "RUNNING" else None

        return await eventually("the VM runs", running)


async def join(cloud: Cloud, address: str) -> None:
    """Run ``kubeadm join`` on the VM by SSH as soon as sshd answers."""
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
            f"--discovery-token-ca-cert-hash {cloud.control_plane.ca_hash}"
        )
    assert joined.exit_status == 0, joined.stderr
