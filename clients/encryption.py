"""Encryption of everything that Temporal stores for us: AES-256-GCM, with keys that only we have.

A payload becomes ``binary/encrypted`` with the id of its key; inside is the whole payload, so that its own encoding
comes back. What is not encrypted is read as it is: histories from before, and what a person signals by the plain CLI.

The protocol is Temporal's payload codec, https://docs.temporal.io/payload-codec; the cipher is that of NIST SP 800-38D
with random nonces of 96 bits, which is good for 2**32 payloads a key: rotate the key before.
"""

import base64
import binascii
import dataclasses
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes, PayloadCodec

KEYS_FILE = "OUTLAST_PAYLOAD_KEYS_FILE"
ENCODING = b"binary/encrypted"
KEY_BYTES = 32
_KEY_ID = "encryption-key-id"
_NONCE_BYTES = 12
_LINE = re.compile(r"^(?P<id>[A-Za-z0-9._-]{1,64})\s+(?P<key>\S+)$")


@dataclass(frozen=True)
class Keys:
    """Keys by their ids. ``current`` encrypts, any of them decrypts."""

    current: str
    ciphers: dict[str, AESGCM] = dataclasses.field(repr=False)


def read_keys(file: Path) -> Keys:
    """Keys from a file: a line each, ``ID BASE64`` of 32 bytes; the first encrypts, and ``#`` begins a comment.

    Raises:
        ValueError: the file is not there or is no such file; the message names it and shows no key.
    """
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ValueError(f"{KEYS_FILE}={str(file)!r} cannot be read: {reason}") from None
    ciphers: dict[str, AESGCM] = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = _LINE.match(text)
        key = _decoded(found["key"]) if found else b""
        if found is None or len(key) != KEY_BYTES:
            raise ValueError(f"{KEYS_FILE}: line {number} of {file} is not an id and the base64 of {KEY_BYTES} bytes")
        if found["id"] in ciphers:
            raise ValueError(f"{KEYS_FILE}: line {number} of {file} names the key {found['id']} a second time")
        ciphers[found["id"]] = AESGCM(key)
    if not ciphers:
        raise ValueError(
            f'{KEYS_FILE}: {file} holds no key: echo "$(date +%Y-%m) $(openssl rand -base64 32)" makes one'
        )
    return Keys(next(iter(ciphers)), ciphers)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


class EncryptionCodec(PayloadCodec):
    """Encrypts by the current key, and decrypts by the key that a payload names."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt."""
        return [self._encrypted(payload) for payload in payloads]

    def _encrypted(self, payload: Payload) -> Payload:
        key, nonce = self._keys.current, os.urandom(_NONCE_BYTES)
        sealed = self._keys.ciphers[key].encrypt(nonce, payload.SerializeToString(), key.encode())
        return Payload(metadata={"encoding": ENCODING, _KEY_ID: key.encode()}, data=nonce + sealed)

    async def decode(self, payloads: Iterable[Payload]) -> list[Payload]:
        """Decrypt what is encrypted.

        Raises:
            ValueError: no key of that id is known, or the payload was changed since it was encrypted.
        """
        return [self._decrypted(payload) for payload in payloads]

    def _decrypted(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCODING:
            return payload
        key = payload.metadata.get(_KEY_ID, b"").decode(errors="replace")
        cipher = self._keys.ciphers.get(key)
        if cipher is None:
            raise ValueError(f"a payload was encrypted by the key {key!r}, which {KEYS_FILE} does not hold (any more)")
        try:
            opened = cipher.decrypt(payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:], key.encode())
        except (InvalidTag, ValueError):
            raise ValueError(f"a payload is not what the key {key!r} encrypted") from None
        plain: Payload = Payload.FromString(opened)
        return plain


def data_converter(keys: Keys | None) -> DataConverter:
    """Pydantic's converter; with keys everything is encrypted, the messages and stack traces of failures, too."""
    if keys is None:
        return pydantic_data_converter
    return dataclasses.replace(
        pydantic_data_converter,
        payload_codec=EncryptionCodec(keys),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )
