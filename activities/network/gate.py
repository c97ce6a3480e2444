"""The one way by which the worker connects to what a spec names: a proxy in this process that judges each address.

An address is judged when the connection is made, and the judged address is the one connected to. So the same few lines
cover a name that resolves to something else the second time (DNS rebinding), a redirect, and the Rust client of
buckets, which resolves names by itself and offers no hook. Clients only know the proxy's address; TLS stays between
them and the server.

If ``HTTPS_PROXY`` or ``HTTP_PROXY`` is set, the connection is made through that proxy. Only that proxy knows what a
name finally resolves to: addresses and names that resolve here are judged, and it has to refuse the others.
"""

import asyncio
import base64
import contextlib
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass
from weakref import WeakValueDictionary

from activities.network.networks import Networks

log = logging.getLogger(__name__)

CONNECT_SECONDS = 4.0
"""Time for one address to answer: less than the clients wait for us."""
HEAD_SECONDS = 15.0
CHUNK = 2**16
_HOP = {"connection", "keep-alive", "proxy-connection", "proxy-authorization"}
"""Headers about one connection, which are not forwarded."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Refused(Exception):
    """The address may not be connected to; the message names the host and the remedy."""


@dataclass
class Passage:
    """A client's permission to use the gate, and what became of its last connections.

    Attributes:
        address: the gate's URL without the token.
        token: the secret by which the gate recognises the client.
        refused: why a connection was refused; None if none was.
        unreachable: why the last failed connection failed; None if none did.
    """

    address: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)
    refused: str | None = None
    unreachable: str | None = None

    @property
    def url(self) -> str:
        """Give the proxy's URL with the token, for a client that takes only a URL."""
        return self.address.replace("//", f"//gate:{self.token}@")

    @property
    def headers(self) -> dict[str, str]:
        """Give the token for a client that takes headers."""
        return {"Proxy-Authorization": f"Basic {base64.b64encode(f'gate:{self.token}'.encode()).decode()}"}


class Gate:
    """Listens on a loopback port from the first passage on, and refuses clients without a passage.

    Args:
        networks: the addresses that may be connected to.
        proxies: proxies by scheme, and the exceptions under ``no``; by default those of the environment.
    """

    def __init__(self, networks: Networks, proxies: Mapping[str, str] | None = None) -> None:
        self._networks = networks
        self._proxies = dict(getproxies_environment() if proxies is None else proxies)
        self._passages: WeakValueDictionary[str, Passage] = WeakValueDictionary()
        self._server: asyncio.Server | None = None
        self._lock = asyncio.Lock()

    async def passage(self) -> Passage:
        """Let a client through, as long as it keeps the returned passage."""
        async with self._lock:
            if self._server is None:
                self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        made = Passage(f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}")
        self._passages[made.headers["Proxy-Authorization"]] = made
        return made

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ValueError
        ):
            async with asyncio.timeout(HEAD_SECONDS):
                head = _Head.parse(await reader.readuntil(b"\r\n\r\n"))
            passage = self._passages.get(head.header("proxy-authorization"))
            if passage is None:
                await _answer(writer, 407)
            else:
                await self._pass(head, passage, (reader, writer))
        writer.close()

    async def _pass(self, head: "_Head", passage: Passage, client: Streams) -> None:
        try:
            async with self._connected(head) as server:
                if head.method == "CONNECT":
                    client[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    await _exchange_heads(head, client, server)
                await _pipe(client, server)
        except Refused as error:
            passage.refused = str(error)
            await _answer(client[1], 403)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            passage.unreachable = _said_of(error, head.host)
            await _answer(client[1], 502)

    @contextlib.asynccontextmanager
    async def _connected(self, head: "_Head") -> AsyncIterator[Streams]:
        proxy = self._proxy_for(head)
        streams = await (self._through(proxy, head) if proxy else self._directly(head))
        try:
            yield streams
        finally:
            streams[1].close()

    async def _directly(self, head: "_Head") -> Streams:
        failure: OSError | TimeoutError = OSError("it has no address")
        for address in self._judged(head.host, await _addresses(head.host, head.port)):
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(address, head.port)
            except (OSError, TimeoutError) as error:
                failure = error
        raise failure

    async def _through(self, proxy: SplitResult, head: "_Head") -> Streams:
        with contextlib.suppress(socket.gaierror):
            self._judged(head.host, await _addresses(head.host, head.port))
        async with asyncio.timeout(CONNECT_SECONDS):
            streams = await asyncio.open_connection(
                proxy.hostname,
                proxy.port or (443 if proxy.scheme == "https" else 80),
                ssl=proxy.scheme == "https" or None,
            )
        login = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}"
        head.proxy_login = base64.b64encode(login.encode()).decode() if proxy.username else None
        if head.method == "CONNECT":
            streams[1].write(head.for_proxy())
            async with asyncio.timeout(HEAD_SECONDS):
                if _status(await streams[0].readuntil(b"\r\n\r\n")) != 200:
                    streams[1].close()
                    raise OSError("the proxy of HTTPS_PROXY refuses it")
        else:
            head.absolute = True
        return streams

    def _proxy_for(self, head: "_Head") -> SplitResult | None:
        found = self._proxies.get("https" if head.method == "CONNECT" else "http") or self._proxies.get("all")
        if not found or proxy_bypass(f"{head.host}:{head.port}", self._proxies):
            return None
        return urlsplit(found if "//" in found else f"http://{found}")

    def _judged(self, host: str, addresses: list[str]) -> list[str]:
        """Choose the addresses of a host that may be connected to.

        Raises:
            Refused: none may.
        """
        refusals = {address: self._networks.refusal(address) for address in addresses}
        good = [address for address, refusal in refusals.items() if refusal is None]
        if not good and refusals:
            log.warning("a spec leads to %s, which is refused: %s", host, ", ".join(refusals))
            raise Refused(f"{host} is refused: {next(iter(refusals.values()))}")
        return good


@dataclass
class _Head:
    """The beginning of a request to a proxy: ``CONNECT host:port``, or a method with an absolute URL."""

    method: str
    target: str
    host: str
    port: int
    headers: list[tuple[str, str]]
    absolute: bool = False  # the next proxy wants the whole URL
    proxy_login: str | None = None

    @classmethod
    def parse(cls, raw: bytes) -> "_Head":
        """Read a head.

        Raises:
            ValueError: this is no request to a proxy.
        """
        first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        found = urlsplit(f"//{target}" if method == "CONNECT" else target)
        if not found.hostname or (method != "CONNECT" and found.scheme != "http"):
            raise ValueError("no host")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return cls(method, target, found.hostname, found.port or 80, headers)

    def header(self, name: str) -> str:
        """Find a header's value; empty if there is none."""
        return next((value for each, value in self.headers if each.lower() == name), "")

    def for_proxy(self) -> bytes:
        """Build the CONNECT request for the next proxy."""
        login = f"Proxy-Authorization: Basic {self.proxy_login}\r\n" if self.proxy_login else ""
        return f"CONNECT {self.target} HTTP/1.1\r\nHost: {self.target}\r\n{login}\r\n".encode("latin-1")

    def forwarded(self) -> bytes:
        """Build the request that the server wants: with the path alone, and one request for each connection."""
        url = urlsplit(self.target)
        path = self.target if self.absolute else (url.path or "/") + (f"?{url.query}" if url.query else "")
        kept = [(name, value) for name, value in self.headers if name.lower() not in _HOP]
        if self.absolute and self.proxy_login:
            kept.append(("Proxy-Authorization", f"Basic {self.proxy_login}"))
        lines = [f"{self.method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in kept), "Connection: close"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _exchange_heads(head: _Head, client: Streams, server: Streams) -> None:
    """Forward the request's head and body, and send back the answer's head, which ends the connection."""
    server[1].write(head.forwarded())
    body, answer = asyncio.create_task(_copy(client[0], server[1])), asyncio.create_task(_last_head(server[0]))
    try:
        await asyncio.wait((body, answer), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise OSError("the client left")
        said = answer.result()
    finally:
        for task in (body, answer):
            task.cancel()
        await asyncio.gather(body, answer, return_exceptions=True)
    first, *lines = said.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [line for line in lines if line.partition(b":")[0].strip().lower().decode("latin-1") not in _HOP]
    client[1].write(b"\r\n".join([first, *kept, b"Connection: close"]) + b"\r\n\r\n")


async def _last_head(server: asyncio.StreamReader) -> bytes:
    """Read an answer's head, and skip those that only announce it (100 Continue)."""
    while _status(head := await server.readuntil(b"\r\n\r\n")) < 200:
        pass
    return head


async def _pipe(client: Streams, server: Streams) -> None:
    """Copy both ways until one side is done."""
    ways = [asyncio.create_task(_copy(client[0], server[1])), asyncio.create_task(_copy(server[0], client[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()


async def _answer(writer: asyncio.StreamWriter, status: int) -> None:
    writer.write(f"HTTP/1.1 {status} Outlast\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    with contextlib.suppress(OSError):
        await writer.drain()


def _status(head: bytes) -> int:
    """Read the status of an answer.

    Raises:
        ValueError: this is no answer in HTTP.
    """
    protocol, _, rest = head.partition(b" ")
    if not protocol.startswith(b"HTTP/1."):
        raise ValueError("no HTTP")
    return int(rest[:3])


async def _addresses(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _said_of(error: Exception, host: str) -> str:
    """Say what went wrong, in words that contain nothing of what was received."""
    match error:
        case socket.gaierror():
            return f"the name {host} does not resolve"
        case TimeoutError():
            return f"{host} does not answer"
        case OSError():
            return f"{host}: {error.strerror or error}"
    return f"{host} does not answer in HTTP"
