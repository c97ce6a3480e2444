"""The emulated Compute Engine with light machines: bought, reached, joined, preempted, all by real protocols."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import asyncssh
import pytest
import pytest_asyncio

from sandbox.claims import claim_octet
from sandbox.control_plane import ControlPlane
from sandbox.gce import GceEmulator, Happening
from sandbox.kube_client import ApiError, KubeClient
from sandbox.machines.light import LightMachines
from sandbox.settings import Settings
from tests.sandbox.gce_world import World, spot_vm
from tests.sandbox.light_nodes import condition, eventually

NAME = "gce-light-vm"


class Cloud(World):
    """A world of light machines, with a key that opens them."""

    def __init__(self, directory: Path, octet: int) -> None:
        super().__init__(directory, speed=50.0)
        settings = Settings(state_dir=directory, speed=50.0, octet=octet)
        self.light = LightMachines(settings)
        self.gce = GceEmulator(settings, self.light)
        self.key = asyncssh.generate_private_key("ssh-ed25519")

    async def buy(self, name: str) -> str:
        """Insert a VM, wait until it runs, and return its address."""
        public = self.key.export_public_key().decode().strip()
        items = {"ssh-keys": f"trainer:{public}", "enable-guest-attributes": "TRUE"}
        metadata = {"items": [{"key": key, "value": value} for key, value in items.items()]}
        body = spot_vm(name, metadata=metadata)
        await self.done(await self.call(self.instances.insert_unary, instance_resource=body))
        return str((await self.get(name)).network_interfaces[0].network_i_p)

    async def host_key(self, name: str) -> asyncssh.SSHKey:
        """Return the host key that the guest agent has published."""

        async def published() -> str | None:
            with contextlib.suppress(Exception):
                found = await self.call(self.instances.get_guest_attributes, instance=name, query_path="hostkeys/")
                return " ".join(f"{item.key} {item.value}" for item in found.query_value.items)
            return None

        return asyncssh.import_public_key(await eventually("host key", published))

    async def ssh(self, name: str, address: str) -> asyncssh.SSHClientConnection:
        trusted = await self.host_key(name)
        return await asyncssh.connect(
            address,
            2222,
            username="trainer",
            client_keys=[self.key],
            known_hosts=lambda *_: ([trusted], [], []),
            config=None,
            agent_path=None,
        )


@pytest_asyncio.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    octet, claim = claim_octet(2222)
    made = Cloud(tmp_path, octet)
    await made.start()
    yield made
    await made.gce.stop()
    claim.close()


async def test_from_purchase_to_preemption(cloud: Cloud, control_plane: ControlPlane, admin: KubeClient) -> None:
    address = await cloud.buy(NAME)
    token = await control_plane.create_bootstrap_token()
    machine = await cloud.ssh(NAME, address)
    join = f"kubeadm join {control_plane.endpoint} --token {token} --discovery-token-ca-cert-hash"
    done = await machine.run(f"sudo -n {join} {control_plane.ca_hash}")
    assert done.exit_status == 0, done.stderr

    async def ready() -> bool:
        node = await admin.get(f"/api/v1/nodes/{NAME}")
        return condition(node["status"], "Ready").get("status") == "True"

    await eventually("node Ready", ready)
    url = f"http://{address}:8080/computeMetadata/v1/instance/preempted"
    async with aiohttp.ClientSession(headers={"Metadata-Flavor": "Google"}) as session:
        async with session.get(url) as answer:
            now = answer.headers["ETag"]
        watching = asyncio.create_task(_text(session, f"{url}?wait_for_change=true&last_etag={now}"))
        preemption = asyncio.create_task(cloud.gce.preempt(NAME, notice=5))
        assert await asyncio.wait_for(watching, 120) == "TRUE"
    await asyncio.wait_for(machine.wait_closed(), 120)
    await preemption
    assert cloud.gce.instances() == []
    assert [event.what for event in cloud.gce.ledger.events][-3:] == [
        Happening.SOFT_OFF,
        Happening.PREEMPTED,
        Happening.DELETED,
    ]
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncssh.connect(address, 2222, known_hosts=None)
    with contextlib.suppress(ApiError):
        await admin.delete(f"/api/v1/nodes/{NAME}")


async def test_an_address_used_again_has_another_host_key(cloud: Cloud) -> None:
    address = await cloud.buy("first")
    old = await cloud.host_key("first")
    await cloud.gce.preempt("first", notice=0)
    assert await cloud.buy("second") == address
    assert (await cloud.host_key("second")).public_data != old.public_data


async def _text(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as answer:
        return await answer.text()
