"""The control surface: a small HTTP API of the running sandbox, and its client.

Everything that the world does to a cloud and no API of a cloud offers: a VM preempted, a zone out of capacity, a
process killed. The CLI, the demo and the tests that run the sandbox as a subprocess speak to it.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

from sandbox.errors import SandboxError
from sandbox.processes import Process
from sandbox.settings import Settings

if TYPE_CHECKING:
    from sandbox.cloud import Cloud

Json = dict[str, Any]

#: Methods of `sandbox.gce.faults.Faults` that may be called from outside.
FAULTS = frozenset(
    {
        "exhaust",
        "restore_capacity",
        "set_quota",
        "refuse_deletes",
        "lose_insert_answers",
        "lag_lists",
        "withdraw_permissions",
        "grant_permissions",
        "expire_credentials",
    }
)


class ControlServer:
    """Serves one cloud's control surface on a free port of 127.0.0.1."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen; `url` says where."""
        app = web.Application(middlewares=[_errors])
        app.add_routes(
            [
                web.get("/status", self._status),
                web.get("/vms", self._vms),
                web.post("/vms/{name}/preempt", self._preempt),
                web.post("/faults/{name}", self._fault),
                web.post("/processes/{name}/kill", self._kill),
                web.post("/processes/{name}/start", self._start),
                web.post("/down", self._down),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner:
            await self._runner.cleanup()

    async def _status(self, _: web.Request) -> web.Response:
        processes = [
            {"name": name, "pid": process.pid, "exitCode": process.exit_code, "log": str(process.log)}
            for name, process in self._cloud.processes.items()
        ]
        return web.json_response({"addresses": self._cloud.addresses, "processes": processes, "vms": self._instances()})

    async def _vms(self, _: web.Request) -> web.Response:
        return web.json_response({"vms": self._instances()})

    def _instances(self) -> list[Json]:
        return [dict(instance) for instance in self._cloud.gce.instances()] if self._cloud.gce else []

    async def _preempt(self, request: web.Request) -> web.Response:
        notice = float((await _body(request)).get("notice", 30.0))
        await self._gce().preempt(request.match_info["name"], notice)
        return web.json_response({})

    async def _fault(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in FAULTS:
            raise SandboxError(f"no fault named {name}; there are: {', '.join(sorted(FAULTS))}")
        body = await _body(request)
        try:
            getattr(self._gce().faults, name)(*body.get("args", []), **body.get("options", {}))
        except TypeError as error:
            raise SandboxError(f"fault {name}: {error}") from None
        return web.json_response({})

    async def _kill(self, request: web.Request) -> web.Response:
        process = self._process(request)
        wanted = str((await _body(request)).get("signal", "SIGKILL"))
        if wanted not in signal.Signals.__members__:
            raise SandboxError(f"no signal named {wanted}")
        process.send(signal.Signals[wanted])
        await asyncio.wait_for(process.wait(), 30)
        return web.json_response({"exitCode": process.exit_code})

    async def _start(self, request: web.Request) -> web.Response:
        process = self._process(request)
        await process.start()
        return web.json_response({"pid": process.pid})

    async def _down(self, _: web.Request) -> web.Response:
        self._cloud.asked_to_stop.set()
        return web.json_response({})

    def _gce(self) -> Any:
        if not self._cloud.gce:
            raise SandboxError("this sandbox runs without gce")
        return self._cloud.gce

    def _process(self, request: web.Request) -> Process:
        name, processes = request.match_info["name"], self._cloud.processes
        if name not in processes:
            raise SandboxError(f"no process named {name}; there are: {', '.join(processes)}")
        return processes[name]


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer what a caller got wrong with 400 and one line."""
    try:
        return await handler(request)
    except (SandboxError, LookupError, ValueError) as error:
        return web.json_response({"error": str(error)}, status=400)


async def _body(request: web.Request) -> Json:
    body = await request.json() if request.can_read_body else {}
    if not isinstance(body, dict):
        raise SandboxError("the body must be a JSON object")
    return body


class ControlClient:
    """Speaks to the control surface of a running sandbox, in this process or another."""

    def __init__(self, url: str) -> None:
        self._url = url

    @classmethod
    def of(cls, settings: Settings) -> ControlClient:
        """The client of the sandbox that runs in the settings' state directory.

        Raises:
            SandboxError: where none has come up there.
        """
        url = read_env(settings.env_file).get("CONTROL_URL")
        if not url:
            raise SandboxError(f"no sandbox is up in {settings.state_dir}: start one with `python -m sandbox up`")
        return cls(url)

    async def status(self) -> Json:
        """`addresses`, `processes` and `vms`."""
        return await self._call("GET", "/status")

    async def vms(self) -> list[Json]:
        """The VMs that exist, as GCE's API shows them."""
        answer = await self._call("GET", "/vms")
        return list(answer["vms"])

    async def preempt(self, name: str, notice: float = 30.0) -> None:
        """Take a spot VM away, `notice` seconds (of real time) after its metadata server says so."""
        await self._call("POST", f"/vms/{name}/preempt", {"notice": notice})

    async def fault(self, name: str, *args: Any, **options: Any) -> None:
        """Let the emulated cloud misbehave: call a method of `sandbox.gce.faults.Faults` that `FAULTS` names."""
        await self._call("POST", f"/faults/{name}", {"args": args, "options": options})

    async def kill(self, process: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a child process that ends it; returns once it has ended."""
        await self._call("POST", f"/processes/{process}/kill", {"signal": number.name})

    async def start(self, process: str) -> None:
        """Start a child process again."""
        await self._call("POST", f"/processes/{process}/start")

    async def down(self) -> None:
        """Ask the sandbox to end; it takes some seconds after the answer."""
        await self._call("POST", "/down")

    async def _call(self, method: str, path: str, body: Json | None = None) -> Json:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
                session.request(method, f"{self._url}{path}", json=body) as answer,
            ):
                content: Json = await answer.json()
        except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
            raise SandboxError(f"the sandbox at {self._url} does not answer: {error or type(error).__name__}") from None
        if "error" in content:
            raise SandboxError(content["error"])
        return content


def read_env(path: Path) -> dict[str, str]:
    """The KEY=VALUE lines of `sandbox.env`; empty where there is no such file."""
    if not path.exists():
        return {}
    pairs = (shlex.split(line)[0].partition("=") for line in path.read_text().splitlines() if line)
    return {name: value for name, _, value in pairs}
