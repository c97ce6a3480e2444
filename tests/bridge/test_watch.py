"""A watch that lasts: what it reports of a real API server that is silent, unreachable, or has forgotten."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientTimeout

from clients import kube
from clients.watch import Resource, Watch
from tests.bridge.proxy import Proxy, proxied
from tests.bridge.recorder import eventually

SILENCE = 1.5  # seconds; the API server's bookmarks come each minute, so every quiet watch is cut in these tests


class Ear:
    """What a watch on ConfigMaps with a label of their own reported."""

    def __init__(self, client: kube.Kube, label: str, **options: float) -> None:
        self.told: list[tuple[str, str | None]] = []
        self.now: dict[str, str] = {}
        self.watch = Watch(client, Resource("v1", "configmaps", f"ear={label}"), self._changed, **options)

    def _changed(self, key: str, item: Any, version: int) -> None:
        name = key.split("/")[1]
        self.told.append((name, item["data"]["text"] if item else None))
        self.now.pop(name, None)
        if item:
            self.now[name] = item["data"]["text"]

    async def hears(self, **texts: str) -> None:
        async def same() -> bool:
            return self.now == texts

        await eventually(same, f"the watch knows {texts}, not {self.now}")


class World:
    """ConfigMaps that come, change and go, and a proxy before the API server."""

    def __init__(self, proxy: Proxy, direct: kube.Kube, through: kube.Kube) -> None:
        self.proxy, self.through, self._direct = proxy, through, direct
        self.label = secrets.token_hex(4)

    async def write(self, name: str, text: str) -> None:
        path = f"/api/v1/namespaces/default/configmaps/{self.label}-{name}"
        body = {"metadata": {"name": f"{self.label}-{name}", "labels": {"ear": self.label}}, "data": {"text": text}}
        apply = "application/apply-patch+yaml"
        body |= {"apiVersion": "v1", "kind": "ConfigMap"}
        await self._direct._call("PATCH", path, {"fieldManager": "test", "force": "true"}, body, apply)

    async def remove(self, name: str) -> None:
        await self._direct._call("DELETE", f"/api/v1/namespaces/default/configmaps/{self.label}-{name}", {})

    def named(self, **texts: str) -> dict[str, str]:
        return {f"{self.label}-{name}": text for name, text in texts.items()}

    @asynccontextmanager
    async def ear(self, **options: float) -> AsyncIterator[Ear]:
        ear = Ear(self.through, self.label, **{"silence": SILENCE, **options})
        task = asyncio.create_task(ear.watch.run())
        try:
            await asyncio.wait_for(ear.watch.synced.wait(), 120)
            yield ear
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def kubeconfig_by(control_plane: Any, address: str, directory: Path) -> Path:
    """Make the administrator's kubeconfig, with another address."""
    config = directory / address.replace(":", "-")
    config.write_text(Path(control_plane.kubeconfig).read_text().replace(control_plane.endpoint, address))
    return config


@asynccontextmanager
async def a_world(control_plane: Any, directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with proxied(control_plane.endpoint) as proxy, contextlib.AsyncExitStack() as stack:
        clients = []
        for address in (control_plane.endpoint, proxy.address):
            config = kubeconfig_by(control_plane, address, directory)
            monkeypatch.setenv("KUBECONFIG", str(config))
            client = await kube.connect()
            stack.push_async_callback(client.close)
            clients.append(client)
        yield World(proxy, *clients)


@pytest.fixture
async def world(control_plane: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with a_world(control_plane, tmp_path, monkeypatch) as world:
        yield world


async def test_what_is_there_and_what_comes_is_told(world: World) -> None:
    await world.write("a", "old")
    async with world.ear() as ear:
        await world.write("b", "new")
        await world.write("a", "changed")
        await world.remove("b")
        await ear.hears(**world.named(a="changed"))
    a, b = world.named(a="", b="")
    assert ear.told == [(a, "old"), (b, "new"), (a, "changed"), (b, None)]


async def test_a_connection_gone_silent_is_noticed_and_nothing_missed(world: World) -> None:
    async with world.ear() as ear:
        await world.write("a", "1")
        await ear.hears(**world.named(a="1"))
        before = world.proxy.connections
        world.proxy.stall()
        await world.write("a", "2")
        await asyncio.sleep(2 * SILENCE)
        world.proxy.flow()
        await ear.hears(**world.named(a="2"))
    assert world.proxy.connections > before
    # It continued from where it stopped: nothing was reported twice.
    assert [text for _, text in ear.told] == ["1", "2"]


async def test_a_watch_that_hears_nothing_is_stale(world: World) -> None:
    async with world.ear(silence=0.3) as ear:
        world.proxy.stall()

        async def stale() -> bool:
            return ear.watch.stale

        await eventually(stale, "the watch is stale")
        assert not ear.watch.stuck, "it tries: to start the process again would mend nothing"
        world.proxy.flow()
        await world.write("a", "1")
        await ear.hears(**world.named(a="1"))

        async def hears_again() -> bool:
            return not ear.watch.stale

        await eventually(hears_again, "the watch is no longer stale")


async def test_a_watch_that_does_not_even_try_is_stuck(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.watch.MISSING_RETRY", 0.1)
    async with world.ear(silence=0.2) as ear:

        async def never(*_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr(world.through, "pages", never)
        monkeypatch.setattr(world.through, "_request", never)

        async def stuck() -> bool:
            return ear.watch.stuck

        await eventually(stuck, "the watch is stuck")


async def test_what_was_reported_is_current_while_the_connection_is_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clients.watch.CUT_OFF", 0.1)
    async with world.ear(silence=30) as ear:
        assert await ear.watch.becomes_current(90)
        await world.proxy.close()

        async def lost() -> bool:
            return not ear.watch.current

        await eventually(lost, "it knows that it is cut off")
        assert not await ear.watch.becomes_current(0.1)
        await world.proxy.open()
        assert await ear.watch.becomes_current(90), "no event is needed for that, nor a bookmark"


async def test_a_long_list_is_read_in_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.kube.PAGE", 2)
    for name in "abcde":
        await world.write(name, name)
    async with world.ear() as ear:
        await ear.hears(**world.named(a="a", b="b", c="c", d="d", e="e"))
        listed = ear.watch.position
        assert listed > 0
        await world.remove("c")
        await ear.hears(**world.named(a="a", b="b", d="d", e="e"))
        assert ear.watch.position > listed
    assert len(ear.told) == 6


async def test_a_server_out_of_reach_is_tried_again(world: World) -> None:
    async with world.ear() as ear:
        await world.write("a", "1")
        await ear.hears(**world.named(a="1"))
        await world.proxy.close()
        await world.write("a", "2")
        await asyncio.sleep(0.5)
        await world.proxy.open()
        await ear.hears(**world.named(a="2"))


async def test_a_watch_ended_by_the_server_goes_on(world: World) -> None:
    async with world.ear(lasts=1, silence=30) as ear:
        await world.write("a", "1")
        await asyncio.sleep(2.5)
        await world.write("a", "2")
        await ear.hears(**world.named(a="2"))
    assert [text for _, text in ear.told] == ["1", "2"]


async def test_a_kind_that_is_not_installed_is_waited_for(world: World) -> None:
    resource = Resource("example.com/v1", "nothings")
    watch = Watch(world.through, resource, lambda key, item, version: None, silence=0.1)
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(1)
    task.cancel()
    assert not watch.stale
    assert not watch.synced.is_set()


async def test_an_object_that_cannot_be_understood_hides_no_other(world: World) -> None:
    understood = []

    def changed(key: str, item: Any, version: int) -> None:
        if item["data"]["text"] == "strange":
            raise KeyError("text")
        understood.append(item["data"]["text"])

    await world.write("a", "strange")
    await world.write("b", "plain")
    watch = Watch(world.through, Resource("v1", "configmaps", f"ear={world.label}"), changed)
    task = asyncio.create_task(watch.run())
    await asyncio.wait_for(watch.synced.wait(), 120)
    task.cancel()
    assert understood == ["plain"]


@pytest.mark.asyncio(loop_scope="session")  # in which the processes of the control plane live
async def test_a_restarted_server_that_forgot_is_listed_again(
    control_plane: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apiserver = next(process for process in control_plane.processes if process.name == "kube-apiserver")
    async with a_world(control_plane, tmp_path, monkeypatch) as world:
        await world.write("gone", "1")
        await world.write("kept", "1")
        async with world.ear() as ear:
            await world.proxy.close()
            # During the outage one goes, one changes, one comes; then the server forgets the way there.
            await world.remove("gone")
            await world.write("kept", "2")
            await world.write("new", "1")
            await apiserver.stop()
            await apiserver.start()
            await apiserver.ready(control_plane._serves)
            await world.proxy.open()
            await ear.hears(**world.named(kept="2", new="1"))
    gone = world.named(gone="")
    assert (*gone, None) in ear.told


async def test_the_kernel_asks_a_silent_connection_whether_it_is_still_there(cluster: kube.Kube) -> None:
    """A server whose node lost its power closes nothing, and the next bookmark would be a minute away."""
    response = await cluster._request("GET", "/api/v1/nodes", {"watch": True}, ClientTimeout(total=30))
    assert response.connection
    assert response.connection.transport
    connected = response.connection.transport.get_extra_info("socket")
    assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    options = {name: connected.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in kube.KEEPALIVE}
    response.close()
    assert options == kube.KEEPALIVE
    assert options["TCP_KEEPIDLE"] + options["TCP_KEEPINTVL"] * options["TCP_KEEPCNT"] < 15  # of a notice's 30
