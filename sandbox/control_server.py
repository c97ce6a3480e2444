"""The control surface: a small HTTP API of the running sandbox.

Everything that the world does to a cloud and no API of a cloud offers: a VM preempted, a zone out of capacity, a
process killed. `control` is its client.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from sandbox.errors import SandboxError
from sandbox.gce import ApiError, GceEmulator
from sandbox.plays import play_fault, play_trap, play_validator
from sandbox.processes import Process

if TYPE_CHECKING:
    from sandbox.cloud import Cloud

Json = dict[str, Any]

LONGEST_WAIT = 10.0  # seconds for which an answer is held back; the end of the sandbox waits for it


class ControlServer:
    """Serves one cloud's control surface on a free port of 127.0.0.1."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._runner: web.AppRunner | None = None
        self._preemptions: set[asyncio.Task[None]] = set()
        self.url = ""

    async def start(self) -> None:
        """Listen; `url` says where."""
        app = web.Application(middlewares=[_errors])
        app.add_routes(
            [
                web.get("/status", self._status),
                web.get("/vms", self._vms),
                web.post("/vms/{name}/preempt", self._preempt),
                web.get("/events", self._events),
                web.post("/faults/{name}", self._fault),
                web.post("/traps/{name}", self._trap),
                web.post("/validator/{verdict}", self._validator),
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
        """Stop listening, and let go of the preemptions under way."""
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
        # It lasts as long as the VM does. What is wrong with the request shows at once.
        await asyncio.wait({preemption}, timeout=0.2)
        if preemption.done():
            preemption.result()
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
    """Answer what a caller got wrong with 400 and one line."""
    try:
        return await handler(request)
    except (SandboxError, ApiError, LookupError, ValueError) as error:
        return web.json_response({"error": str(error)}, status=400)


async def _body(request: web.Request) -> Json:
    body = await request.json() if request.can_read_body else {}
    if not isinstance(body, dict):
        raise SandboxError("the body must be a JSON object")
    return body
