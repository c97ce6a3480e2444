"""Checkpoints that a training keeps itself, where Outlast tells it to (`mode: Application`). Copy this file, or don't.

Nothing here is needed to run under Outlast: whoever writes files to the bucket by other means only has to write
`outlast.json` last (docs/application.md). Python 3.9 or later, standard library alone.

    import sys, torch
    import outlast_checkpoint as outlast

    stop = outlast.sigterm()                                # an event that is set by SIGTERM
    step = 0
    if (found := outlast.restore("/scratch/ckpt")) is not None:
        state = torch.load("/scratch/ckpt/state.pt"); step = state["step"]; ...
    while step < steps:
        ...
        if step % 1000 == 0 or stop.is_set():
            torch.save({"step": step, ...}, "/scratch/ckpt/state.pt")
            outlast.publish("/scratch/ckpt", step)
        if stop.is_set():
            sys.exit(143)

`gcs` works as it is, with the identity of the VM or of the pod's service account (Workload Identity), and at an
`endpoint` that asks for no key. For `s3` and `azure` give your own client's two functions:

    outlast.publish(directory, step, put=lambda file, key: s3.upload_file(file, bucket, key))
    outlast.restore(directory, get=lambda key, file: s3.download_file(bucket, key, file))
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

IDENTITY = Path("/etc/outlast")
MANIFEST = "outlast.json"
TOKEN_URL = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"
TRIES = 4
SECONDS = 60.0
"""Time-out of a connection without progress."""

Put = Callable[[str, str], object]
"""Uploads a file (its path, the key)."""
Get = Callable[[str, str], object]
"""Downloads an object (its key, the file's path)."""


class Where(NamedTuple):
    """What the files in /etc/outlast say. `prefix` is this incarnation's own; `restored_from` is empty at first."""

    type: str
    bucket: str
    prefix: str
    endpoint: str
    region: str
    restored_from: str


def where() -> Where | None:
    """Where to keep checkpoints and what to go on from; None outside of Outlast, or where the job names no bucket."""
    names = ("storageType", "storageBucket", "storagePrefix", "storageEndpoint", "storageRegion", "restoredFrom")
    told = [_read(IDENTITY / name) for name in names]
    return Where(*told) if told[1] and told[2] else None


def sigterm() -> threading.Event:
    """An event that SIGTERM sets: the training saves itself at the next step and exits other than 0."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return stop


def publish(directory: str | Path, progress: float, put: Put | None = None) -> str | None:
    """Upload all files of a directory as one checkpoint, its manifest last; gives where it lies in the bucket.

    It counts as a whole or not at all: cut short at any moment it has no manifest, and is passed over. None outside
    of Outlast, where nothing is uploaded.

    Raises:
        OSError: it could not be uploaded; nothing was published.
    """
    told = where()
    if told is None:
        return None
    put = put or _client(told).put
    root, path = Path(directory), f"{told.prefix}/{int(progress):012d}-{time.time_ns():x}"
    sizes: dict[str, int] = {}
    for file in sorted(each for each in root.rglob("*") if each.is_file() and each.name != MANIFEST):
        name = file.relative_to(root).as_posix()
        put(str(file), f"{path}/{name}")
        sizes[name] = file.stat().st_size
    manifest = root / MANIFEST
    manifest.write_text(json.dumps({"version": 1, "progress": progress, "files": sizes}))
    put(str(manifest), f"{path}/{MANIFEST}")
    return path


def restore(directory: str | Path, get: Get | None = None) -> float | None:
    """Download the checkpoint to go on from into a directory; gives its progress, None where there is none.

    The directory is there afterwards either way, for the first checkpoint to be written into.

    Raises:
        OSError: it could not be downloaded, or not whole: exit, and Outlast starts the training again.
    """
    told, root = where(), Path(directory)
    root.mkdir(parents=True, exist_ok=True)
    if told is None or not told.restored_from:
        return None
    get = get or _client(told).get
    get(f"{told.restored_from}/{MANIFEST}", str(root / MANIFEST))
    manifest = json.loads((root / MANIFEST).read_text())
    for name, size in manifest["files"].items():
        file = root / name
        if root.resolve() not in file.resolve().parents:
            raise OSError(f"{name} would lie outside of {root}")
        file.parent.mkdir(parents=True, exist_ok=True)
        get(f"{told.restored_from}/{name}", str(file))
        if file.stat().st_size != size:
            raise OSError(f"{told.restored_from}/{name} has {file.stat().st_size} bytes instead of {size}")
    return float(manifest["progress"])


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""


def _client(told: Where) -> _Gcs:
    if told.type != "gcs":
        raise OSError(f"storage of type {told.type}: give the functions put and get of a client of yours")
    return _Gcs(told)


class _Gcs:
    """GCS's XML API: a PUT or a GET an object."""

    def __init__(self, told: Where) -> None:
        self._root = f"{told.endpoint or 'https://storage.googleapis.com'}/{told.bucket}"
        self._asks_for_a_token = not told.endpoint

    def put(self, file: str, key: str) -> None:
        def upload() -> None:
            with open(file, "rb") as body:
                headers = {"Content-Length": str(os.path.getsize(file)), **self._headers()}
                urllib.request.urlopen(self._request(key, "PUT", headers, body), timeout=SECONDS).close()

        _again(upload)

    def get(self, key: str, file: str) -> None:
        def download() -> None:
            request = self._request(key, "GET", self._headers())
            with urllib.request.urlopen(request, timeout=SECONDS) as answer, open(file, "wb") as body:
                shutil.copyfileobj(answer, body)

        _again(download)

    def _request(self, key: str, method: str, headers: dict[str, str], body: object = None) -> urllib.request.Request:
        url = f"{self._root}/{urllib.parse.quote(key)}"
        return urllib.request.Request(url, data=body, headers=headers, method=method)  # type: ignore[arg-type]

    def _headers(self) -> dict[str, str]:
        if not self._asks_for_a_token:
            return {}
        request = urllib.request.Request(TOKEN_URL, headers={"Metadata-Flavor": "Google"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return {"Authorization": f"Bearer {json.load(answer)['access_token']}"}


def _again(call: Callable[[], None]) -> None:
    """Try a few times: what the service cannot do now it can do a second later."""
    for attempt in range(TRIES):
        try:
            call()
            return
        except OSError as error:  # URLError and time-outs among them
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 429)
            if refused or attempt == TRIES - 1:
                raise
            time.sleep(2**attempt)
