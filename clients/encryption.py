"""Encryption of everything that Temporal stores for us: AES-256-GCM, with keys that only we have.

A payload becomes ``binary/encrypted`` with the id of its key. Inside is the whole payload, so that its own encoding
returns. What is not encrypted is read as it is: older histories, and signals that a person sends with the plain CLI.

The protocol is Temporal's payload codec, https://docs.temporal.io/payload-codec; the cipher is that of NIST SP 800-38D
with random nonces of 96 bits, which is safe for 2**32 payloads of one key: rotate the key before that.
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
from temporalio.contrib.pydantic import PydanticJSONPlainPayloadConverter
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    DefaultPayloadConverter,
    JSONPlainPayloadConverter,
    PayloadCodec,
)

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
    """Read keys from a file: each line is ``ID BASE64`` of 32 bytes; the first encrypts, and ``#`` begins a comment.

    Raises:
        ValueError: the file does not exist or is malformed; the message names it and shows no key.
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
            f'{KEYS_FILE}: {file} contains no key: echo "$(date +%Y-%m) $(openssl rand -base64 32)" makes one'
        )
    return Keys(next(iter(ciphers)), ciphers)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


class EncryptionCodec(PayloadCodec):
    """Encrypts with the current key, and decrypts with the key that a payload names."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt each payload."""
        return [self._encrypted(payload) for payload in payloads]

    def _encrypted(self, payload: Payload) -> Payload:
        key, nonce = self._keys.current, os.urandom(_NONCE_BYTES)
        sealed = self._keys.ciphers[key].encrypt(nonce, payload.SerializeToString(), key.encode())
        return Payload(metadata={"encoding": ENCODING, _KEY_ID: key.encode()}, data=nonce + sealed)

    async def decode(self, payloads: Iterable[Payload]) -> list[Payload]:
        """Decrypt each payload that is encrypted.

        Raises:
            ValueError: the payload's key is not known, or the payload was changed since it was encrypted.
        """
        return [self._decrypted(payload) for payload in payloads]

    def _decrypted(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCODING:
            return payload
        key = payload.metadata.get(_KEY_ID, b"").decode(errors="replace")
        cipher = self._keys.ciphers.get(key)
        if cipher is None:
            raise ValueError(f"a payload was encrypted by the key {key!r}, which is not (or no longer) in {KEYS_FILE}")
        try:
            opened = cipher.decrypt(payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:], key.encode())
        except (InvalidTag, ValueError):
            raise ValueError(f"a payload is not what the key {key!r} encrypted") from None
        plain: Payload = Payload.FromString(opened)
        return plain


class SharedPayloadConverter(CompositePayloadConverter):
    """The SDK's converter for Pydantic, whose parsers all workflows of a process share.

    The SDK makes a converter for each workflow, and its own makes each type's parser again for each.
    """

    JSON = PydanticJSONPlainPayloadConverter()

    def __init__(self) -> None:
        """Take the SDK's converters, with Pydantic's for JSON."""
        usual = DefaultPayloadConverter.default_encoding_payload_converters
        super().__init__(*(self.JSON if isinstance(each, JSONPlainPayloadConverter) else each for each in usual))


def data_converter(keys: Keys | None) -> DataConverter:
    """Give Pydantic's converter; with keys it encrypts everything, even messages and stack traces of failures."""
    shared = DataConverter(payload_converter_class=SharedPayloadConverter)
    if keys is None:
        return shared
    return dataclasses.replace(
        shared,
        payload_codec=EncryptionCodec(keys),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )
