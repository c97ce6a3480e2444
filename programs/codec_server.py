"""``python -m programs.codec_server``: let the Web UI and the CLI of whoever runs it read encrypted payloads.

Environment: ``OUTLAST_PAYLOAD_KEYS_FILE``; ``OUTLAST_CODEC_ADDRESS`` (host:port, 127.0.0.1:8888);
``OUTLAST_CODEC_ORIGIN`` (the Web UI's origin as its address line shows it, http://localhost:8233). Whoever reaches this
server can read everything, so it belongs on loopback, or behind something that checks who asks.

The protocol: https://docs.temporal.io/production-deployment/data-encryption#codec-server
"""

import base64
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web
from temporalio.api.common.v1 import Payload

from clients.encryption import KEYS_FILE, EncryptionCodec, read_keys
from clients.settings import address
from programs import frame

ADDRESS = "OUTLAST_CODEC_ADDRESS"
ORIGIN = "OUTLAST_CODEC_ORIGIN"
BODY_BYTES = 64 * 1024 * 1024
_ALLOWED_HEADERS = "Authorization, Content-Type, X-Namespace"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Json = dict[str, Any]


def main() -> int:
    """Serve; return 1 with one line on stderr if that is not possible."""
    return frame.run("codec_server", _serve, (OSError, ValueError))


def _serve() -> None:
    codec, host, port, origin = from_environment(os.environ)
    web.run_app(application(codec, origin), host=host, port=port, access_log=None)


def from_environment(environment: Mapping[str, str]) -> tuple[EncryptionCodec, str, int, str]:
    """Read (codec, host, port, origin).

    Raises:
        ValueError: a variable cannot be used; the message names it.
    """
    if not environment.get(KEYS_FILE):
        raise ValueError(f"{KEYS_FILE} is not set: there is nothing to decrypt with")
    codec = EncryptionCodec(read_keys(Path(environment[KEYS_FILE])))
    host, _, port = (address(environment, ADDRESS) or "127.0.0.1:8888").rpartition(":")
    return codec, host.strip("[]"), int(port), environment.get(ORIGIN) or "http://localhost:8233"


def application(codec: EncryptionCodec, origin: str) -> web.Application:
    """Serve ``POST /encode`` and ``/decode`` to programs without an origin (the CLI) and to pages of ``origin``."""

    @web.middleware
    async def check_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse pages of any other origin, whatever name they reached us by."""
        given = request.headers.get("Origin")
        if given not in (None, origin):
            raise web.HTTPForbidden(text=f"{given} is not {ORIGIN}")
        response = await handler(request)
        if given is not None:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Methods"] = "POST"
            response.headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
            response.headers["Vary"] = "Origin"
        return response

    async def allow(_: web.Request) -> web.Response:
        return web.Response(status=204)

    async def encode(request: web.Request) -> web.Response:
        return _answer(await codec.encode(await _payloads(request)))

    async def decode(request: web.Request) -> web.Response:
        payloads = await _payloads(request)
        try:
            return _answer(await codec.decode(payloads))
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error

    app = web.Application(middlewares=[check_origin], client_max_size=BODY_BYTES)
    for path, handler in (("/encode", encode), ("/decode", decode)):
        app.router.add_post(path, handler)
        app.router.add_options(path, allow)
    return app


async def _payloads(request: web.Request) -> list[Payload]:
    """Read the body, in protobuf's JSON: bytes are base64."""
    try:
        given = (await request.json())["payloads"]
        return [_payload(each) for each in given]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise web.HTTPBadRequest(text="the body is no temporal.api.common.v1.Payloads in JSON") from error


def _payload(given: Json) -> Payload:
    metadata = {key: base64.b64decode(value, validate=True) for key, value in (given.get("metadata") or {}).items()}
    return Payload(metadata=metadata, data=base64.b64decode(given.get("data") or "", validate=True))


def _answer(payloads: list[Payload]) -> web.Response:
    return web.json_response({"payloads": [_json(payload) for payload in payloads]})


def _json(payload: Payload) -> Json:
    metadata = {key: base64.b64encode(value).decode() for key, value in payload.metadata.items()}
    return {"metadata": metadata, "data": base64.b64encode(payload.data).decode()}


if __name__ == "__main__":
    sys.exit(main())
