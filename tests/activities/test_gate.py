"""The worker is no proxy: a name in a spec reaches no internal address, and no answer is quoted."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import obstore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from obstore.store import S3Store
from temporalio.exceptions import ApplicationError

from activities.cloud_errors import CloudError, Invalid
from activities.network.gate import Gate, _pipe
from activities.network.networks import ALLOWED, Networks, networks
from activities.registry.client import Registry
from activities.registry.credentials import CLOUD_KEY, Credentials
from activities.registry.repository import parse_repository
from activities.storage.bucket import SecretBuckets
from api import errors
from api.spot_instance_job import CheckpointStorage
from sandbox.object_store import ObjectStore
from tests.activities.internal_server import SECRET, Internal, internal_server
from tests.activities.world import loopback_gate

LOGIN = Credentials("user", "hunter3")
CLOSED = Networks()
ONE = networks({ALLOWED: "127.0.0.1"})


async def read_tags(repository: str, gate: Gate, credentials: Credentials | None = LOGIN) -> None:
    async with Registry(parse_repository(repository), credentials, gate) as registry:
        await registry.tags()


async def list_bucket(endpoint: str, gate: Gate, kind: str = "s3") -> None:
    storage = CheckpointStorage(type=kind, bucket="b", endpoint=endpoint)
    bucket = await SecretBuckets(None, gate).open(storage, None, "team")  # type: ignore[arg-type]
    await bucket.list("a")


@pytest.fixture
async def internal() -> AsyncIterator[Internal]:
    async with internal_server() as server:
        yield server


# --- the first address


async def test_a_registry_on_loopback_is_refused_with_the_setting(internal: Internal) -> None:
    with pytest.raises(ApplicationError, match=ALLOWED) as raised:
        await read_tags(f"{internal.address}/p/r", Gate(CLOSED))
    assert (raised.value.type, internal.asked) == (errors.INVALID, [])


@pytest.mark.parametrize("kind", ["gcs", "s3"])
async def test_an_endpoint_on_loopback_is_refused_with_the_setting(internal: Internal, kind: str) -> None:
    with pytest.raises(Invalid, match=rf"checkpointStorage.endpoint: .*{ALLOWED}"):
        await list_bucket(internal.url, Gate(CLOSED), kind)
    assert internal.asked == []


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_name_that_resolves_to_loopback_is_refused(internal: Internal, scheme: str) -> None:
    port = internal.address.rpartition(":")[2]
    with pytest.raises(Invalid, match="localhost is refused"):
        await list_bucket(f"{scheme}://localhost:{port}", Gate(CLOSED))
    with pytest.raises(ApplicationError, match="localhost is refused"):
        await read_tags(f"localhost:{port}/p/r", Gate(CLOSED))


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fd00:ec2::254]", "168.63.129.16", "[::ffff:169.254.169.254]", "2852039166", "0"]
)
@pytest.mark.parametrize("allowed", ["", "0.0.0.0/0,::/0"])
async def test_the_metadata_server_is_refused_whatever_is_allowed(host: str, allowed: str) -> None:
    with pytest.raises(Invalid, match="never connects to"):
        await list_bucket(f"http://{host}", Gate(networks({ALLOWED: allowed})))


async def test_the_api_server_is_refused_though_its_network_is_allowed(internal: Internal) -> None:
    inside = networks({ALLOWED: "127.0.0.0/8", "KUBERNETES_SERVICE_HOST": "127.0.0.2"})
    with pytest.raises(Invalid, match="OUTLAST_DENIED_NETWORKS"):
        await list_bucket(internal.url, Gate(inside))
    assert internal.asked == []


async def test_what_is_judged_is_what_is_connected_to(internal: Internal, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: a name resolves to a permitted address at first, and to an internal one the second time."""
    looks: list[str] = []
    port = int(internal.address.rpartition(":")[2])

    async def rebinding(host: str, port: int, **_: Any) -> list[Any]:
        if host == "rebinding.example":
            looks.append(host)
            host = "127.0.0.1" if len(looks) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", rebinding)
    # Obstore tries twice: nobody listens at the first address, and the second is refused.
    with pytest.raises(CloudError):
        await list_bucket(f"http://rebinding.example:{port}", Gate(ONE))
    assert looks
    assert internal.asked == []


# --- where it leads


async def test_a_registrys_redirect_to_an_internal_address_is_refused(internal: Internal) -> None:
    async with internal_server("127.0.0.1", leads=f"{internal.url}/secret") as outside:
        with pytest.raises(ApplicationError, match=ALLOWED):
            await read_tags(f"{outside.address}/p/r", Gate(ONE))
    assert outside.asked
    assert internal.asked == []


@pytest.mark.parametrize("kind", ["gcs", "s3"])
async def test_an_endpoints_redirect_to_an_internal_address_is_refused(internal: Internal, kind: str) -> None:
    for scheme, why in (("https", ALLOWED), ("http", "without TLS")):
        async with internal_server("127.0.0.1", leads=f"{scheme}://{internal.address}/secret") as outside:
            with pytest.raises(Invalid, match=why):
                await list_bucket(outside.url, Gate(ONE), kind)
        assert outside.asked
    assert internal.asked == []


async def test_a_token_service_inside_is_refused(internal: Internal) -> None:
    challenge = f'Bearer realm="{internal.url}/token",service="s"'
    async with internal_server("127.0.0.1", challenge=challenge) as outside:
        with pytest.raises(ApplicationError, match=ALLOWED):
            await read_tags(f"{outside.address}/p/r", Gate(ONE))
    assert internal.asked == []


async def test_an_upload_is_begun_nowhere_inside(internal: Internal) -> None:
    async with (
        internal_server("127.0.0.1", status=202, location=f"{internal.url}/upload") as outside,
        Registry(parse_repository(f"{outside.address}/p/r"), LOGIN, Gate(ONE)) as registry,
    ):
        with pytest.raises(ApplicationError, match=ALLOWED):
            await registry.try_push()
    assert internal.asked == []


# --- credentials


async def test_a_redirect_to_another_host_shows_no_credentials(internal: Internal) -> None:
    async with (
        internal_server("127.0.0.1", challenge='Basic realm="r"') as outside,
        Registry(parse_repository(f"{outside.address}/p/r"), LOGIN, loopback_gate()) as registry,
    ):
        with contextlib.suppress(ConnectionError):
            await registry.tags()
        assert outside.logins
        outside.leads = f"{internal.url}/elsewhere"
        with contextlib.suppress(ConnectionError):
            await registry.tags()
    assert internal.asked == ["/elsewhere"]
    assert internal.logins == []


async def test_a_host_that_begins_like_the_registry_is_another_host(internal: Internal) -> None:
    """``127.0.0.1:50`` is the beginning of ``127.0.0.1:5000``, as ``registry.example`` is of longer names."""
    async with internal_server("127.0.0.1", challenge='Basic realm="r"') as outside:
        port = int(outside.address.rpartition(":")[2])
        repository = parse_repository(f"127.0.0.1:{str(port)[:-1]}/p/r")
        async with Registry(repository, LOGIN, loopback_gate()) as registry:
            registry._connection._authorization["pull"] = "Basic hunter3"
            with contextlib.suppress(ConnectionError):
                await registry._call("GET", f"{outside.url}/v2/", tolerate=True)
    assert outside.asked
    assert outside.logins == []


async def test_the_clouds_key_is_shown_to_no_token_service_but_googles(internal: Internal) -> None:
    challenge = f'Bearer realm="{internal.url}/token",service="s"'
    key = Credentials("_json_key", "hunter4", named_by=CLOUD_KEY)
    async with internal_server("127.0.0.1", challenge=challenge) as outside:
        with contextlib.suppress(ApplicationError, ConnectionError):
            await read_tags(f"{outside.address}/p/r", loopback_gate(), key)
    assert internal.asked == ["/token"]
    assert internal.logins == []


async def test_nobody_else_goes_through_the_gate(internal: Internal) -> None:
    gate = loopback_gate()
    passage = await gate.passage()
    async with aiohttp.ClientSession() as session:
        async with session.get(internal.url, proxy=passage.address) as answer:
            assert answer.status == 407
        async with session.get(internal.url, proxy=passage.address, headers=passage.headers) as answer:
            assert await answer.text() == SECRET
    assert internal.asked == ["/"]
    await gate.close()


async def test_tls_stays_between_the_client_and_the_server(store: ObjectStore, tmp_path: Path) -> None:
    """A large object goes through the tunnel both ways, and the gate could read none of it."""
    gate = loopback_gate()
    passage = await gate.passage()
    server = await _in_tls(store.url, tmp_path)
    bucket = S3Store(
        "checkpoints",
        endpoint=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        skip_signature=True,
        client_options={"proxy_url": passage.url, "allow_invalid_certificates": True},
    )
    body = b"weights " * 2**20
    await obstore.put_async(bucket, "a/model", body)
    assert store.buckets["checkpoints"]["a/model"].body == body
    assert bytes(await (await obstore.get_async(bucket, "a/model")).bytes_async()) == body
    server.close()


async def _in_tls(url: str, directory: Path) -> asyncio.Server:
    """Start a port before a plain server that speaks TLS, with a certificate of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")]), datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1)).sign(key, SHA256())
    pem = serialization.Encoding.PEM
    file = directory / "server.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + made.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        await _pipe((reader, writer), behind)
        behind[1].close()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)


# --- what is told


@pytest.mark.parametrize("status", [200, 302, 400, 403, 404, 409, 500])
async def test_no_byte_of_a_registrys_answer_is_told(internal: Internal, status: int) -> None:
    internal.status = status
    said = ""
    try:
        async with Registry(parse_repository(f"{internal.address}/p/r"), LOGIN, loopback_gate()) as registry:
            await registry.tags()
            said = str(await registry.delete("t", "sha256:" + "a" * 64))
            await registry.try_push()
    except (ApplicationError, ConnectionError) as error:
        said += _everything(error)
    assert "hunter2" not in said


@pytest.mark.parametrize("status", [200, 302, 400, 403, 404, 409, 500])
@pytest.mark.parametrize("kind", ["gcs", "s3"])
async def test_no_byte_of_a_buckets_answer_is_told(internal: Internal, kind: str, status: int) -> None:
    internal.status = status
    with pytest.raises(CloudError) as raised:
        await list_bucket(internal.url, loopback_gate(), kind)
    assert "hunter2" not in _everything(raised.value)
    if status >= 400:
        assert str(status) in str(raised.value) or status == 404


async def test_a_server_that_speaks_no_http_is_not_quoted() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"220 {SECRET}\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(ConnectionError) as raised:
        await read_tags(f"{address}/p/r", loopback_gate())
    assert "hunter2" not in _everything(raised.value)
    with pytest.raises(CloudError) as told:
        await list_bucket(f"http://{address}", loopback_gate())
    assert "hunter2" not in _everything(told.value)
    server.close()


def _everything(error: BaseException | None) -> str:
    """Collect what Temporal would store of an error: its message, and those of its causes."""
    return f"{error} {_everything(error.__cause__)}" if error is not None else ""


# --- an installation's own proxy


async def test_an_installations_proxy_is_used_and_its_targets_are_judged_where_their_names_resolve() -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 no\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    proxy = f"http://me:pw@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    gate = Gate(CLOSED, {"https": proxy, "http": proxy, "no": "kept.invalid"})
    with pytest.raises(CloudError, match="HTTPS_PROXY"):
        await list_bucket("https://only-the-proxy-knows.invalid", gate)
    assert b"CONNECT only-the-proxy-knows.invalid:443 HTTP/1.1" in asked[0]
    assert b"Proxy-Authorization: Basic bWU6cHc=" in asked[0]
    before = len(asked)
    with pytest.raises(Invalid, match=ALLOWED):
        await list_bucket("https://127.0.0.3", gate)
    with pytest.raises(CloudError, match="does not resolve"):
        await list_bucket("https://kept.invalid", gate)
    assert len(asked) == before
    server.close()
