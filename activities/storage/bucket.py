"""GCS, S3 and Azure behind :class:`activities.storage.Storage`, by obstore; the only module that loads it.

Credentials come from the job's Secrets, else they are the worker's own. The latter are never shown to an ``endpoint``
that a spec names, because whoever writes the spec chooses who answers there.

Whatever a spec or a Secret may direct goes through the gate: an ``endpoint``, but also a key that names another host.
The worker's own identity, which asks the metadata server for a token, connects directly to Google, Amazon or Azure.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store
from temporalio.exceptions import ApplicationError

from activities.cloud_errors import CloudError, Invalid, Missing, Permission, Transient
from activities.kubernetes.secret import read_secret
from activities.network.gate import Gate, Passage
from activities.storage import StoredObject, named
from api.common import SecretReference
from api.formats import misshapen
from api.names import shown
from api.spot_instance_job import CheckpointStorage
from api.storage import MANIFEST_BYTES
from clients.kube import Kube

CALL_SECONDS = 15.0
"""Time-out of one request."""
PARTS_AT_ONCE = 4
"""Parts of one object, each of 5 MiB, that are uploaded at once, and so in memory; obstore's default is 12."""
KEYS = {
    "gcs": ("credentials.json",),
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "azure": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"),
}
"""Keys that a Secret must contain, by the type of the storage."""
SIGNS = ("client_email", "private_key", "private_key_id")
"""The entries of a service account's key that are used."""

_STORES: dict[str, Any] = {"gcs": GCSStore, "s3": S3Store, "azure": AzureStore}
CODES = frozenset(
    {
        "AccessDenied", "AccountIsDisabled", "AuthenticationFailed", "AuthorizationFailure",
        "AuthorizationHeaderMalformed", "AuthorizationPermissionMismatch", "ContainerNotFound", "ExpiredToken",
        "InternalError", "InvalidAccessKeyId", "InvalidBucketName", "InvalidToken", "NoSuchBucket", "NoSuchKey",
        "PermanentRedirect", "RequestTimeTooSkewed", "ServiceUnavailable", "SignatureDoesNotMatch", "SlowDown",
        "UserProjectAccountProblem", "UserProjectMissing",
    }
)  # fmt: skip
"""Error codes of the services, the only words of an answer's body that are ever shown."""

_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_BY_STATUS: dict[int, type[CloudError]] = {400: Invalid, 401: Permission, 403: Permission, 404: Missing}


def secret_of(storage: CheckpointStorage, cloud: SecretReference | None) -> SecretReference | None:
    """Choose the Secret for the bucket; None stands for the worker's own identity, or nobody's at an ``endpoint``."""
    if storage.credentials_secret_ref is not None:
        return SecretReference(name=storage.credentials_secret_ref.name)
    return cloud if storage.type == "gcs" and storage.endpoint is None else None


class SecretBuckets:
    """Opens buckets with the contents of the job's Secrets.

    Args:
        kube: the cluster, to read Secrets.
        gate: the gate through which buckets are reached that a spec or a Secret directs.
    """

    def __init__(self, kube: Kube, gate: Gate) -> None:
        self._kube = kube
        self._gate = gate

    async def open(self, storage: CheckpointStorage, cloud: SecretReference | None, namespace: str) -> "Bucket":
        """See :meth:`activities.storage.Buckets.open`."""
        if storage.type not in _STORES:
            raise Invalid(f"checkpointStorage.type {shown(storage.type)} is none of {', '.join(_STORES)}")
        for wrong in misshapen(storage):
            raise Invalid(f"checkpointStorage.{wrong}")
        secret = secret_of(storage, cloud)
        entries = await self._entries(storage.type, secret, namespace) if secret else None
        passage = await self._gate.passage() if entries is not None or storage.endpoint else None
        options = {
            "config": _config(storage, entries),
            "client_options": {
                "timeout": timedelta(seconds=CALL_SECONDS),
                "connect_timeout": timedelta(seconds=5),
                "allow_http": (storage.endpoint or "").startswith("http:"),
                **({"proxy_url": passage.url} if passage else {}),
            },
            # Temporal retries what is worth retrying.
            "retry_config": {"max_retries": 1, "retry_timeout": timedelta(seconds=CALL_SECONDS)},
        }
        try:
            return Bucket(_STORES[storage.type](storage.bucket, **options), storage, passage)
        except (BaseError, ValueError, TypeError):
            # Not the client's words: they may quote the Secret.
            raise Invalid(
                f"cannot open {named(storage)}: check checkpointStorage.endpoint, region and the Secret's credentials"
            ) from None

    async def _entries(self, kind: str, secret: SecretReference, namespace: str) -> Mapping[str, str]:
        where = secret.namespace or namespace
        try:
            entries = await read_secret(self._kube, where, secret.name)
        except ApplicationError as error:
            raise Missing(error.message) from error
        if lacking := [key for key in KEYS[kind] if not entries.get(key)]:
            raise Missing(f"Secret {where}/{secret.name} lacks the key {' and '.join(lacking)}")
        if kind == "azure" and not _ACCOUNT.fullmatch(entries[KEYS[kind][0]].strip()):
            # It becomes the first part of a host name.
            raise Invalid(
                f"Secret {where}/{secret.name}: {KEYS[kind][0]} must be 3 to 24 lower case letters and digits"
            )
        if kind == "gcs" and not _is_key(entries["credentials.json"]):
            raise Invalid(f"Secret {where}/{secret.name}: credentials.json must contain a service account's key")
        return entries


def _is_key(text: str) -> bool:
    try:
        key = json.loads(text)
    except ValueError:
        return False
    return isinstance(key, dict) and key.keys() >= set(SIGNS)


def _config(storage: CheckpointStorage, entries: Mapping[str, str] | None) -> dict[str, Any]:
    match storage.type:
        case "gcs":
            return _gcs(storage, entries)
        case "s3":
            config: dict[str, Any] = {"region": storage.region or "us-east-1"}
            names = {"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY"}
            names["session_token"] = "AWS_SESSION_TOKEN"
        case _:
            config, names = {}, {"account_name": KEYS["azure"][0], "account_key": KEYS["azure"][1]}
    if storage.endpoint:
        config["endpoint"] = storage.endpoint
        config["skip_signature"] = entries is None
    return config | {name: entries[key].strip() for name, key in names.items() if entries and entries.get(key)}


def _gcs(storage: CheckpointStorage, entries: Mapping[str, str] | None) -> dict[str, Any]:
    if entries is not None:
        key = json.loads(entries["credentials.json"])
        # Only what signs: a key may also name another host.
        config = {"service_account_key": json.dumps({name: key[name] for name in SIGNS})}
        return config | ({"base_url": storage.endpoint} if storage.endpoint else {})
    if storage.endpoint is None:
        return {}
    # If only signatures are skipped, the client still asks for a token before it writes.
    nobody = {"gcs_base_url": storage.endpoint, "disable_oauth": True}
    return {"service_account_key": json.dumps(nobody | dict.fromkeys(SIGNS, ""))}


class Bucket:
    """See :class:`activities.storage.Storage`."""

    def __init__(self, store: Any, storage: CheckpointStorage, passage: Passage | None = None) -> None:
        self._store = store
        self._passage = passage
        self._name = named(storage)

    async def list(self, prefix: str) -> list[StoredObject]:
        """List the objects page by page."""
        try:
            pages = obstore.list(self._store, prefix, chunk_size=1000)
            return [StoredObject(meta["path"], meta["size"]) async for page in pages for meta in page]
        except (BaseError, OSError, ValueError) as error:
            raise self._typed(error) from None

    async def get(self, key: str, limit: int = MANIFEST_BYTES) -> bytes:
        """Read an object's beginning."""
        try:
            found = await obstore.get_async(self._store, key)
            body = b""
            async for part in found.stream():
                body += bytes(part)
                if len(body) >= limit:
                    break
            return body[:limit]
        except FileNotFoundError:
            return b""
        except (BaseError, OSError, ValueError) as error:
            raise self._typed(error) from None

    async def put(self, key: str, parts: AsyncIterator[bytes]) -> None:
        """Upload an object, a large one in parts."""
        try:
            await obstore.put_async(self._store, key, parts, max_concurrency=PARTS_AT_ONCE)
        except (BaseError, OSError, ValueError) as error:
            raise self._typed(error) from None

    def _typed(self, error: Exception) -> CloudError:
        """Find an error's type by its status. The client's words are not shown, as they quote the answer's body."""
        if isinstance(error, ValueError):
            return Invalid(f'{self._name}: a path there cannot have parts "." and ".." or line breaks')
        if self._passage and self._passage.refused:
            return Invalid(f"{self._name}, checkpointStorage.endpoint: {self._passage.refused}")
        status, code = _STATUS.search(str(error)), _CODE.search(str(error))
        if self._passage and status and status[1] == "407":
            # After a redirect the client drops its token for the gate, unless it makes a tunnel for TLS.
            return Invalid(f"{self._name}: checkpointStorage.endpoint redirects to another host without TLS")
        kind: type[CloudError] = _BY_STATUS.get(int(status[1]), Transient) if status else Transient
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            kind = Permission
        elif isinstance(error, FileNotFoundError):
            kind = Missing
        elif isinstance(error, InvalidPathError | NotSupportedError):
            kind = Invalid
        answered = [status[1]] if status else []
        answered += [code[1]] if code and code[1] in CODES else []
        unreachable = self._passage.unreachable if self._passage else None
        told = f"it answered {' '.join(answered)}" if answered else unreachable or "it does not answer as a bucket does"
        return kind(f"{self._name}: {_REMEDIES.get(kind, '')}{told}")


_REMEDIES: dict[type[CloudError], str] = {
    Missing: "it does not exist, create it or correct checkpointStorage: ",
    Permission: "grant these credentials the right to list, read and create objects: ",
}
