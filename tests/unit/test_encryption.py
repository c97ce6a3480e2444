"""Encryption of payloads: keys, rotation, what is refused, and the codec server."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from temporalio.api.common.v1 import Payload

from clients.encryption import ENCODING, EncryptionCodec, Keys, read_keys
from programs.codec_server import application, from_environment

OLD = base64.b64encode(bytes(range(32))).decode()
NEW = base64.b64encode(bytes(range(1, 33))).decode()
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'{"token": "hunter2"}')
ORIGIN = "http://localhost:8233"


def keys(tmp_path: Path, *lines: str) -> Keys:
    file = tmp_path / "keys"
    file.write_text("\n".join(lines))
    return read_keys(file)


@pytest.fixture
def codec(tmp_path: Path) -> EncryptionCodec:
    return EncryptionCodec(keys(tmp_path, f"old {OLD}"))


async def test_what_is_encrypted_comes_back_and_cannot_be_read(codec: EncryptionCodec) -> None:
    (sealed,) = await codec.encode([PLAIN])
    assert sealed.metadata["encoding"] == ENCODING
    assert b"hunter2" not in sealed.SerializeToString()
    assert b"json/plain" not in sealed.SerializeToString()
    assert await codec.decode([sealed]) == [PLAIN]


async def test_the_same_is_never_encrypted_the_same(codec: EncryptionCodec) -> None:
    first, second = await codec.encode([PLAIN, PLAIN])
    assert first.data != second.data


async def test_what_is_not_encrypted_is_read_as_it_is(codec: EncryptionCodec) -> None:
    assert await codec.decode([PLAIN]) == [PLAIN]


async def test_a_new_key_encrypts_and_the_old_one_still_decrypts(codec: EncryptionCodec, tmp_path: Path) -> None:
    (before,) = await codec.encode([PLAIN])
    rotated = EncryptionCodec(keys(tmp_path, "# rotated in May", f"new {NEW}", f"old {OLD}  # until July", ""))
    (after,) = await rotated.encode([PLAIN])
    assert await rotated.decode([before, after]) == [PLAIN, PLAIN]
    with pytest.raises(ValueError, match=r"the key 'new', which is not \(or no longer\) in OUTLAST_PAYLOAD_KEYS_FILE"):
        await codec.decode([after])


@pytest.mark.parametrize("change", ["data", "key", "short"])
async def test_what_was_changed_is_refused(tmp_path: Path, change: str) -> None:
    both = EncryptionCodec(keys(tmp_path, f"new {NEW}", f"old {OLD}", f"same {NEW}"))
    (sealed,) = await both.encode([PLAIN])
    if change == "data":
        sealed.data = sealed.data[:-1] + bytes([sealed.data[-1] ^ 1])
    elif change == "key":
        sealed.metadata["encryption-key-id"] = b"same"  # the same key by another name
    else:
        sealed.data = b"x"
    with pytest.raises(ValueError, match="not what the key"):
        await both.decode([sealed])


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "contains no key"),
        (["# nothing"], "contains no key"),
        ([OLD], "line 1"),
        ([f"old {OLD[:-8]}"], "line 1"),
        (["old not-base64!"], "line 1"),
        ([f"old {OLD}", f"old {NEW}"], "line 2 .* a second time"),
        ([f"{'o' * 65} {OLD}"], "line 1"),
    ],
)
def test_a_file_that_cannot_be_used_is_said_without_its_keys(tmp_path: Path, lines: list[str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refused:
        keys(tmp_path, *lines)
    assert OLD[:8] not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"OUTLAST_PAYLOAD_KEYS_FILE='.*/none' cannot be read"):
        read_keys(tmp_path / "none")


def test_keys_are_in_no_representation(tmp_path: Path) -> None:
    assert "AESGCM" not in repr(keys(tmp_path, f"old {OLD}"))


# --- the codec server

Ask = Callable[..., Awaitable[tuple[int, dict[str, str], Any]]]


@pytest.fixture
async def ask(codec: EncryptionCodec) -> AsyncIterator[Ask]:
    runner = web.AppRunner(application(codec, ORIGIN))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]

    async def run(path: str, body: Any = None, method: str = "POST", **headers: str) -> tuple[int, dict[str, str], Any]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"http://{host}:{port}{path}", data=body, headers=headers) as answer,
        ):
            text = await answer.text()
            return answer.status, dict(answer.headers), json.loads(text) if answer.status == 200 else text

    yield run
    await runner.cleanup()


def as_json(*payloads: Payload) -> str:
    def fields(payload: Payload) -> dict[str, Any]:
        metadata = {key: base64.b64encode(value).decode() for key, value in payload.metadata.items()}
        return {"metadata": metadata, "data": base64.b64encode(payload.data).decode()}

    return json.dumps({"payloads": [fields(payload) for payload in payloads]})


async def test_the_web_ui_reads_what_is_encrypted(ask: Ask, codec: EncryptionCodec) -> None:
    sealed = as_json(*await codec.encode([PLAIN]), PLAIN)
    status, headers, answer = await ask("/decode", sealed, Origin=ORIGIN)
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)
    assert answer == json.loads(as_json(PLAIN, PLAIN))


async def test_the_cli_encrypts_what_it_sends(ask: Ask) -> None:
    status, headers, sealed = await ask("/encode", as_json(PLAIN))
    assert status == 200
    assert "Access-Control-Allow-Origin" not in headers
    assert (await ask("/decode", json.dumps(sealed)))[2] == json.loads(as_json(PLAIN))


async def test_the_browser_asks_before_it_sends(ask: Ask) -> None:
    status, headers, _ = await ask("/decode", method="OPTIONS", Origin=ORIGIN)
    assert status == 204
    assert headers["Access-Control-Allow-Headers"] == "Authorization, Content-Type, X-Namespace"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:8233.evil.example"])
@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
async def test_a_page_of_another_origin_gets_nothing(
    ask: Ask, codec: EncryptionCodec, origin: str, method: str
) -> None:
    status, headers, said = await ask("/decode", as_json(*await codec.encode([PLAIN])), method, Origin=origin)
    assert status == 403
    assert "Access-Control-Allow-Origin" not in headers
    assert "hunter2" not in said


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"payloads": [1]}', '{"payloads": [{"data": "%"}]}'])
async def test_what_is_no_payload_is_refused(ask: Ask, body: str) -> None:
    assert (await ask("/decode", body))[0] == 400


async def test_an_unknown_key_is_said(ask: Ask, tmp_path: Path) -> None:
    sealed = await EncryptionCodec(keys(tmp_path, f"new {NEW}")).encode([PLAIN])
    status, _, said = await ask("/decode", as_json(*sealed))
    assert status == 400
    assert "the key 'new'" in said


def test_it_listens_on_loopback_unless_told_otherwise(tmp_path: Path) -> None:
    keys(tmp_path, f"old {OLD}")
    set_ = {"OUTLAST_PAYLOAD_KEYS_FILE": str(tmp_path / "keys")}
    assert from_environment(set_)[1:] == ("127.0.0.1", 8888, ORIGIN)
    told = set_ | {"OUTLAST_CODEC_ADDRESS": "[::1]:9", "OUTLAST_CODEC_ORIGIN": "https://temporal.example"}
    assert from_environment(told)[1:] == ("::1", 9, "https://temporal.example")
    with pytest.raises(ValueError, match="OUTLAST_PAYLOAD_KEYS_FILE is not set"):
        from_environment({})
