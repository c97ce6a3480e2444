"""The node agent as it is deployed: its own process, its pod's token, and the rights of deploy/."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from api import names
from sandbox.errors import SandboxError
from tests.bridge.conftest import REPOSITORY
from tests.bridge.proxy import proxied
from tests.bridge.recorder import eventually

PREEMPTED = "/computeMetadata/v1/instance/preempted"


class Metadata:
    """A metadata server that answers as GCE's does, and fails on request."""

    def __init__(self) -> None:
        self.value = "FALSE"
        self.failures: list[int] = []  # the statuses of the next answers
        self.asked = 0
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.host = ""

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get(PREEMPTED, self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.host = f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        assert self._runner is not None
        self._changed.set()  # those who wait for a change get an answer, or the clean-up would wait for them
        await self._runner.cleanup()

    def preempt(self) -> None:
        self.value = "TRUE"
        self._changed.set()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        if request.headers.get("Metadata-Flavor") != "Google":
            return web.Response(status=403)
        if self.failures:
            return web.Response(status=self.failures.pop(0))
        if request.query.get("wait_for_change") == "true" and request.query.get("last_etag") == self.value:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), float(request.query["timeout_sec"]))
        return web.Response(text=self.value, headers={"ETag": self.value})


@pytest.fixture
async def metadata() -> AsyncIterator[Metadata]:
    server = Metadata()
    await server.start()
    yield server
    await server.stop()


def node(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}


async def write(control_plane: Any, manifest: dict[str, Any]) -> None:
    await control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))


@pytest.fixture
async def own(control_plane: Any, installed: None) -> AsyncIterator[str]:
    """Make a Node."""
    name = f"own-{secrets.token_hex(4)}"
    await write(control_plane, node(name, taints=[{"key": names.GPU_RESOURCE, "value": "a", "effect": "NoSchedule"}]))
    yield name
    await control_plane.kubectl("delete", "node", name, "--ignore-not-found")


@pytest.fixture
async def kubeconfig(control_plane: Any, own: str, tmp_path: Path) -> AsyncIterator[Path]:
    """Make a kubeconfig with the token of an agent's pod on that Node, as the kubelet would give it."""
    kubectl, name = control_plane.kubectl, f"agent-{own}"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "outlast-system"},
        "spec": {
            "nodeName": own,
            "serviceAccountName": "outlast-agent",
            "containers": [{"name": "agent", "image": "outlast"}],
            "tolerations": [{"operator": "Exists"}],
        },
    }
    await write(control_plane, pod)
    token = await kubectl(
        "create",
        "token",
        "outlast-agent",
        "-n",
        "outlast-system",
        "--bound-object-kind=Pod",
        f"--bound-object-name={name}",
    )
    (tmp_path / "token").write_text(token)
    config = tmp_path / "kubeconfig"
    config.write_text(
        json.dumps(
            {
                "clusters": [
                    {
                        "name": "c",
                        "cluster": {"server": control_plane.url, "certificate-authority": str(control_plane.ca_file)},
                    }
                ],
                "users": [{"name": "u", "user": {"tokenFile": str(tmp_path / "token")}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    yield config
    await kubectl("delete", "pod", name, "-n", "outlast-system", "--force", "--grace-period=0", "--ignore-not-found")


class Running:
    """The agent's process."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "Running":
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "programs.node_agent",
            cwd=REPOSITORY,
            env={**os.environ, **self._environment},
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()

    @property
    def megabytes(self) -> float:
        """Measure its resident memory in MB."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


@pytest.fixture
def agent(metadata: Metadata, own: str, kubeconfig: Path) -> Running:
    return Running({"NODE_NAME": own, "GCE_METADATA_HOST": metadata.host, "KUBECONFIG": str(kubeconfig)})


async def taints(control_plane: Any, name: str) -> list[dict[str, str]]:
    found = json.loads(await control_plane.kubectl("get", "node", name, "-o", "json"))
    return list(found["spec"].get("taints") or [])


async def marks(control_plane: Any, name: str) -> list[dict[str, str]]:
    return [taint for taint in await taints(control_plane, name) if taint["key"] == names.TAINT_PREEMPTED]


async def listening(metadata: Metadata, questions: int = 2) -> None:
    """Wait until the agent has had its first answers and waits for a change."""

    async def asked() -> bool:
        return metadata.asked >= questions

    await eventually(asked, "the agent asks")


async def test_a_notice_becomes_one_taint_beside_the_others(
    control_plane: Any, metadata: Metadata, agent: Running, own: str
) -> None:
    async with agent:
        await listening(metadata)
        assert await marks(control_plane, own) == []
        metadata.preempt()
        (mark,) = await eventually(lambda: marks(control_plane, own), "the mark")
        assert agent.megabytes < 60
    assert mark["effect"] == "NoSchedule"
    assert mark["value"].startswith("20")
    assert names.GPU_RESOURCE in [taint["key"] for taint in await taints(control_plane, own)]


async def test_a_mark_that_is_there_is_left_alone(
    control_plane: Any, metadata: Metadata, agent: Running, own: str
) -> None:
    metadata.preempt()
    async with agent:
        (first,) = await eventually(lambda: marks(control_plane, own), "the mark")
    asked = metadata.asked
    async with agent:
        await listening(metadata, asked + 1)
        await asyncio.sleep(1)
    assert await marks(control_plane, own) == [first]


async def test_a_metadata_server_that_fails_is_asked_again(
    control_plane: Any, metadata: Metadata, agent: Running, own: str
) -> None:
    metadata.failures = [401, 503, 503]
    metadata.preempt()
    async with agent:
        assert await eventually(lambda: marks(control_plane, own), "the mark")


async def test_taints_that_changed_meanwhile_are_kept(
    control_plane: Any, metadata: Metadata, agent: Running, own: str
) -> None:
    async with agent:
        await listening(metadata)
        await control_plane.kubectl("taint", "node", own, "late=1:NoSchedule")
        metadata.preempt()
        await eventually(lambda: marks(control_plane, own), "the mark")
    assert {"late", names.GPU_RESOURCE} <= {taint["key"] for taint in await taints(control_plane, own)}


def go_by(kubeconfig: Path, address: str, other: str) -> None:
    kubeconfig.write_text(kubeconfig.read_text().replace(address, other))


@pytest.mark.parametrize("silent", [False, True])
async def test_a_notice_in_an_outage_of_the_api_server_is_marked_at_its_end(
    control_plane: Any, metadata: Metadata, own: str, kubeconfig: Path, silent: bool
) -> None:
    """It refuses connections, or accepts them and says nothing."""
    async with proxied(control_plane.endpoint) as server:
        go_by(kubeconfig, control_plane.endpoint, server.address)
        environment = {"NODE_NAME": own, "GCE_METADATA_HOST": metadata.host, "KUBECONFIG": str(kubeconfig)}
        async with Running(environment) as agent:
            await listening(metadata)
            if silent:
                server.stall()
            else:
                await server.close()
            metadata.preempt()
            await asyncio.sleep(3)
            assert await marks(control_plane, own) == []
            over = datetime.now(UTC)
            if silent:
                server.flow()
            else:
                await server.open()
            (mark,) = await eventually(lambda: marks(control_plane, own), "the mark")
            assert agent.process is not None
            assert agent.process.returncode is None
    assert datetime.strptime(mark["value"], names.MARK_TIME).replace(tzinfo=UTC) < over, "when the notice came"


async def test_a_signal_ends_it_cleanly(metadata: Metadata, agent: Running) -> None:
    async with agent:
        await listening(metadata)
        assert agent.process is not None
        agent.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(agent.process.wait(), 120) == 0


async def test_without_its_nodes_name_it_says_so(kubeconfig: Path) -> None:
    async with Running({"NODE_NAME": "", "KUBECONFIG": str(kubeconfig)}) as running:
        assert running.process is not None
        _, said = await running.process.communicate()
        assert running.process.returncode == 1
    assert said.decode().splitlines() == ["notice_agent: NODE_NAME is not set: give it by fieldRef spec.nodeName"]


MARK = {"key": names.TAINT_PREEMPTED, "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("target", "patch", "complaint"),
    [
        ("other", {"spec": {"taints": [MARK]}}, "may not change the Node other-"),
        ("own", {"spec": {"taints": None}}, "change no other"),
        ("own", {"spec": {"taints": [{**MARK, "effect": "NoExecute"}]}}, "change no other"),
        ("own", {"metadata": {"labels": {"pool": "trusted"}}}, "nothing of its Node but the taints"),
        ("own", {"spec": {"unschedulable": True}}, "nothing of its Node but the taints"),
    ],
)
async def test_its_token_is_good_for_nothing_else(
    control_plane: Any, own: str, kubeconfig: Path, target: str, patch: Any, complaint: str
) -> None:
    other = f"other-{own}"
    await write(control_plane, node(other))
    with pytest.raises(SandboxError) as refused:
        await control_plane.kubectl(
            "patch", "node", own if target == "own" else other, "--type=merge", "-p", json.dumps(patch),
            "--kubeconfig", kubeconfig,
        )  # fmt: skip
    await control_plane.kubectl("delete", "node", other)
    assert complaint in str(refused.value)


@pytest.fixture
async def wider(control_plane: Any) -> AsyncIterator[None]:
    """Bind a role to the agent, as somebody else might."""
    role = ("clusterrole", "wider", "--verb=get,update,patch,delete", "--resource=nodes,nodes/status")
    await control_plane.kubectl("create", *role)
    await control_plane.kubectl(
        "create", "clusterrolebinding", "wider", "--clusterrole=wider", "--serviceaccount=outlast-system:outlast-agent"
    )
    yield
    await control_plane.kubectl("delete", "clusterrole/wider", "clusterrolebinding/wider")


@pytest.mark.parametrize(
    "attack",
    [
        ("patch", "--subresource=status", "--type=merge", "-p", '{"status": {"allocatable": {"cpu": "99"}}}'),
        ("delete", "--wait=false"),
    ],
    ids=lambda attack: attack[0],
)
async def test_its_policy_holds_whatever_else_its_account_is_given(
    control_plane: Any, own: str, kubeconfig: Path, wider: None, attack: tuple[str, ...]
) -> None:
    async def refused() -> bool:
        try:
            await control_plane.kubectl(
                attack[0], "node", own, *attack[1:], "--dry-run=server", "--kubeconfig", kubeconfig
            )
        except SandboxError as error:
            return "the agent may make and delete no Nodes" in str(error)
        return False

    assert await eventually(refused, "its policy refuses it")
