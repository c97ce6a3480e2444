"""The control surface: a small HTTP API of the running sandbox.

It does what the world does to a cloud and no cloud's API offers: preempt a VM, use up a zone's capacity, kill a
process. ``control`` is its client.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Protocol

from aiohttp import web

from sandbox.checkpoint_operator import CheckpointOperator
from sandbox.checkpoint_operator.agent_pods import AgentPods
from sandbox.errors import SandboxError
from sandbox.gce import ApiError, GceEmulator
from sandbox.gpu_operator import GpuOperator
from sandbox.plays import play_fault, play_trap, play_validator
from sandbox.processes import Process
from sandbox.product import Product
from sandbox.product_pods import ProductPods
from sandbox.settings import Settings

Json = dict[str, Any]

LONGEST_WAIT = 10.0
"""How long an answer may be delayed, in seconds: the sandbox can only end after the answer."""


class Controlled(Protocol):
    """What the control surface reads and changes of a cloud. A part that the sandbox runs without is None."""

    @property
    def settings(self) -> Settings:
        """The settings of the sandbox."""

    @property
    def addresses(self) -> dict[str, str]:
        """The addresses of all parts, by the names in ``sandbox.env``."""

    @property
    def processes(self) -> dict[str, Process]:
        """The child processes by name."""

    @property
    def gce(self) -> GceEmulator | None:
        """The emulated cloud."""

    @property
    def operator(self) -> CheckpointOperator | AgentPods | None:
        """The checkpoint operator."""

    @property
    def gpu_operator(self) -> GpuOperator | None:
        """The GPU operator."""

    @property
    def product(self) -> Product | ProductPods | None:
        """The installation of Outlast."""

    @property
    def asked_to_stop(self) -> asyncio.Event:
        """The event that asks whoever brought the sandbox up to take it down."""


class ControlServer:
    """Serves one cloud's control surface on a free port of 127.0.0.1."""

    def __init__(self, cloud: Controlled) -> None:
        self._cloud = cloud
        self._runner: web.AppRunner | None = None
        self._preemptions: set[asyncio.Task[None]] = set()
        self.url = ""

    async def start(self) -> None:
        """Start to listen at ``url``."""
        app = web.Application(middlewares=[_errors])
        app.add_routes(
            [
                web.get("/status", self._status),
                web.get("/vms", self._vms),
                web.post("/vms/{name}/preempt", self._preempt),
                web.post("/vms/{name}/silence", self._silence),
                web.get("/events", self._events),
                web.post("/faults/{name}", self._fault),
                web.post("/traps/{name}", self._trap),
                web.post("/validator/{verdict}", self._validator),
                web.post("/processes/{name}/kill", self._kill),
                web.post("/processes/{name}/start", self._start),
                web.post("/nodes/{name}/{change}", self._node),
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
        """Stop listening, and cancel the preemptions that are under way."""
        if self._runner:
            await self._runner.cleanup()
        for preemption in self._preemptions:
            preemption.cancel()

    async def _status(self, _: web.Request) -> web.Response:
        processes = [
            {"name": name, "pid": process.pid, "exitCode": process.exit_code, "log": str(process.log)}
            for name, process in self._cloud.processes.items()
        ]
        return web.json_response({"addresses": self._cloud.addresses, "processes": processes, "vms": self._instances()})

    async def _vms(self, _: web.Request) -> web.Response:
        return web.json_response({"vms": self._instances()})

    def _instances(self) -> list[Json]:
        return self._cloud.gce.instances() if self._cloud.gce else []

    async def _preempt(self, request: web.Request) -> web.Response:
        seconds = (await _body(request)).get("notice")
        notice = None if seconds is None else float(seconds)
        preemption = asyncio.create_task(self._gce().preempt(request.match_info["name"], notice))
        self._preemptions.add(preemption)
        preemption.add_done_callback(self._preemptions.discard)
        # The preemption lasts as long as the VM does, but what is wrong with the request shows at once.
        await asyncio.wait({preemption}, timeout=0.2)
        if preemption.done():
            preemption.result()
        return web.json_response({})

    async def _silence(self, request: web.Request) -> web.Response:
        await self._gce().silence(request.match_info["name"])
        return web.json_response({})

    async def _events(self, request: web.Request) -> web.Response:
        since, wait = int(request.query.get("since", 0)), float(request.query.get("wait", 0))
        events = await self._gce().ledger.since(since, min(wait, LONGEST_WAIT))
        return web.json_response({"events": [asdict(event) for event in events]})

    async def _fault(self, request: web.Request) -> web.Response:
        body = await _body(request)
        name, values, options = request.match_info["name"], body.get("args", []), body.get("options", {})
        play_fault(self._gce().faults, name, values, options, self._cloud.settings.machines)
        return web.json_response({})

    async def _trap(self, request: web.Request) -> web.Response:
        if not self._cloud.operator:
            raise SandboxError("this sandbox runs without the checkpoint operator")
        await play_trap(self._cloud.operator, request.match_info["name"], await _body(request))
        return web.json_response({})

    async def _validator(self, request: web.Request) -> web.Response:
        if not self._cloud.gpu_operator:
            raise SandboxError("this sandbox runs without the GPU operator")
        await play_validator(self._cloud.gpu_operator, request.match_info["verdict"], await _body(request))
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

    async def _node(self, request: web.Request) -> web.Response:
        product = self._cloud.product
        if not isinstance(product, ProductPods):
            raise SandboxError("in this sandbox Outlast is no pods: bring it up with --product --machines real")
        changes = {"cut": product.cut, "boot": product.boot}
        await changes[request.match_info["change"]](request.match_info["name"])
        return web.json_response({})

    async def _down(self, _: web.Request) -> web.Response:
        self._cloud.asked_to_stop.set()
        return web.json_response({})

    def _gce(self) -> GceEmulator:
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
    """Answer a caller's mistake with 400 and one line."""
    try:
        return await handler(request)
    except (SandboxError, ApiError, LookupError, ValueError) as error:
        return web.json_response({"error": str(error)}, status=400)


async def _body(request: web.Request) -> Json:
    body = await request.json() if request.can_read_body else {}
    if not isinstance(body, dict):
        raise SandboxError("the body must be a JSON object")
    return body
