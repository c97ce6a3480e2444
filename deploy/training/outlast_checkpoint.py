"""Publish and restore checkpoints of a training in the bucket that Outlast names (`mode: Application`).

Copy this file if you like. Nothing here is needed to run under Outlast: if you write files to the bucket by other
means, you only have to write `outlast.json` last (docs/application.md). It needs Python 3.9 or later and the standard
library.

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

Several processes, for example one for each GPU (`torchrun --nproc-per-node=8`) or for each member of a gang, write one
checkpoint together. Each saves its part into a directory of its own, with file names of its own, and all leave at the
same step:

    rank, here = int(os.environ["RANK"]), f"/scratch/{os.environ['RANK']}"
    if (found := outlast.restore_shard(here)) is not None:
        state = torch.load(f"{here}/state-{rank}.pt"); step = state["step"]; ...
    while step < steps:
        ...
        leaving = outlast.agreed(stop.is_set())             # True for all of them, once one of them is told to end
        if step % 1000 == 0 or leaving:
            torch.save({"step": step, ...}, f"{here}/state-{rank}.pt")
            outlast.publish_shard(here, step)
        if leaving:
            sys.exit(143)

`gcs` works as it is, with the identity of the VM or of the pod's service account (Workload Identity), and at an
`endpoint` that asks for no key. For `s3` and `azure` pass two functions of your own client:

    outlast.publish(directory, step, put=lambda file, key: s3.upload_file(file, bucket, key))
    outlast.restore(directory, get=lambda key, file: s3.download_file(bucket, key, file))

To restore what several processes wrote, pass `sizes` as well: a function that lists a prefix, and returns the size of
each object by its key.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

IDENTITY = Path("/etc/outlast")
MANIFEST = "outlast.json"
SHARD_MANIFEST = re.compile(r"outlast-([0-9]+)-of-([0-9]+)\.json")
TOKEN_URL = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"
TRIES = 4
SECONDS = 60.0
"""Time-out of a connection without progress."""
MEET_SECONDS = 600.0
"""How long `agreed` waits at its first call until all processes of this machine have called it."""

_RANK = struct.Struct("!I")
"""How a process says which one it is."""

T = TypeVar("T")
Place = tuple[str, int]
"""The place at which processes meet: a host and a port, or on one machine the path of a socket and 0."""
Put = Callable[[str, str], object]
"""Uploads a file (its path, the key)."""
Get = Callable[[str, str], object]
"""Downloads an object (its key, the file's path)."""
Sizes = Callable[[str], Mapping[str, int]]
"""Lists the objects whose keys begin with a prefix (which ends in a slash): key → size in bytes."""


class Where(NamedTuple):
    """What the files in /etc/outlast say. `prefix` is this incarnation's own; `restored_from` is empty at first."""

    type: str
    bucket: str
    prefix: str
    endpoint: str
    region: str
    restored_from: str


def where() -> Where | None:
    """Read where to keep checkpoints and what to continue from; None outside Outlast, or if the job has no bucket."""
    names = ("storageType", "storageBucket", "storagePrefix", "storageEndpoint", "storageRegion", "restoredFrom")
    told = [_read(IDENTITY / name) for name in names]
    return Where(*told) if told[1] and told[2] else None


def sigterm() -> threading.Event:
    """Return an event that SIGTERM sets: then save the training at the next step, and do not exit 0."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return stop


def publish(directory: str | Path, progress: float, put: Put | None = None) -> str | None:
    """Upload all files of a directory as one checkpoint, its manifest last; return where it is in the bucket.

    It counts as a whole or not at all: if it is cut short at any moment it has no manifest, and is skipped. Outside
    Outlast nothing is uploaded, and the result is None.

    Raises:
        OSError: if it could not be uploaded; nothing was published.
    """
    told = where()
    if told is None:
        return None
    root, path = Path(directory), f"{told.prefix}/{int(progress):012d}-{time.time_ns():x}"
    manifest = {"version": 1, "progress": progress}
    _upload(root, _files(root), path, MANIFEST, manifest, put or _client(told).put)
    return path


def publish_shard(
    directory: str | Path,
    progress: int,
    rank: int | None = None,
    world: int | None = None,
    files: Iterable[str] | None = None,
    fits: list[int] | None = None,
    put: Put | None = None,
) -> str | None:
    """Upload what this process saved of a checkpoint that several processes write; return where the checkpoint is.

    It is complete once all of them have returned from here with the same `progress`. None waits for the others, and if
    one of them is cut short, the whole checkpoint is skipped. Outside Outlast nothing is uploaded, and the result is
    None.

    Args:
        directory: what this process has written. No other process may publish a file of the same name.
        progress: how far the training is, the same in all processes and never smaller than before.
        rank: which process this is, from 0; by default that of torch.distributed, JAX or the variable RANK.
        world: how many processes there are; by default as they say, or the variable WORLD_SIZE.
        files: the files of this process, by their paths in the directory, if others write there, too. By default all
            of them, except those of other processes that `restore_shard` has put there and nobody has changed since.
        fits: how many machines can load this checkpoint, for example `[2, 4]`; by default any number.
        put: uploads a file.

    Raises:
        OSError: if it could not be uploaded; the checkpoint is not complete.
    """
    rank, world = _who() if rank is None or world is None else (rank, world)
    if not 0 <= rank < world or progress < 0 or progress != int(progress):
        raise ValueError(f"rank {rank} of {world} at progress {progress}: ranks begin at 0, progress is a whole number")
    local = os.environ.get("LOCAL_WORLD_SIZE")
    machines = world // int(local) if local else _machines()
    if fits is not None and machines not in fits:
        raise ValueError(f"fits={fits} counts machines, and this training runs on {machines}")
    told = where()
    if told is None:
        return None
    # Each start of the processes has directories of its own: files of the same names and sizes would hide a mixture.
    start = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    root, path = Path(directory), f"{told.prefix}/{int(progress):012d}" + (f"-{start}" if start else "")
    manifest: dict[str, Any] = {"version": 2, "progress": int(progress), "run": _run()}
    if fits is not None:
        manifest["fits"] = fits
    if files is None:
        own = [file for file in _files(root) if _others.get(file.resolve()) != file.stat().st_mtime_ns]
    else:
        own = [root / name for name in files]
    _upload(root, own, path, f"outlast-{rank}-of-{world}.json", manifest, put or _client(told).put)
    return path


def restore(directory: str | Path, get: Get | None = None, sizes: Sizes | None = None) -> float | None:
    """Download the checkpoint to continue from into a directory; return its progress, or None if there is none.

    The directory exists afterwards either way, so that the first checkpoint can be written into it.

    Raises:
        OSError: if it could not be downloaded, or not as a whole: exit, and Outlast starts the training again.
    """
    return _restore(Path(directory), None, get, sizes)


def restore_shard(
    directory: str | Path,
    rank: int | None = None,
    world: int | None = None,
    get: Get | None = None,
    sizes: Sizes | None = None,
) -> float | None:
    """Download what the process of this rank saved of the checkpoint to continue from; see `restore`.

    If another number of processes wrote it, or one alone, all of it is downloaded. Give each process a directory of its
    own, and keep your numbers of processes in what you save if they may change.
    """
    return _restore(Path(directory), _who() if rank is None or world is None else (rank, world), get, sizes)


def agreed(flag: bool) -> bool:
    """Return True in all processes of the training if `flag` is true in one of them.

    All have to call it, at the same step: a save needs all of them, and a signal reaches each at another step. So ask
    `agreed(stop.is_set())` at each step, instead of `stop.is_set()`. It goes through torch.distributed or JAX if they
    have been set up for several processes. Otherwise it goes through a socket of this machine, or in a gang through the
    port that follows MASTER_PORT on the first machine.

    Raises:
        OSError: one of the other processes has ended.
    """
    torch, jax = _ready("torch"), _ready("jax")
    rank, world = _who()
    if world == 1:
        return bool(flag)
    if torch is not None:
        return _agreed_by_torch(torch, flag)
    if jax is not None:
        return _agreed_by_jax(flag)
    if _machines() == 1 and int(os.environ.get("LOCAL_WORLD_SIZE", world)) != world:
        raise RuntimeError("agreed: set up torch.distributed or jax.distributed first, there are several machines")
    return _neighbours(rank, world).agreed(bool(flag))


# --- files


_others: dict[Path, int] = {}
"""What other processes wrote, as it was downloaded: the file and the time of its last change."""


def _files(root: Path) -> list[Path]:
    return sorted(each for each in root.rglob("*") if each.is_file() and not _is_manifest(each.name))


def _upload(root: Path, files: list[Path], path: str, name: str, manifest: dict[str, Any], put: Put) -> None:
    """Upload files of a directory, and last a manifest that names them."""
    sizes: dict[str, int] = {}
    for file in files:
        below = file.relative_to(root).as_posix()
        put(str(file), f"{path}/{below}")
        sizes[below] = file.stat().st_size
    (root / name).write_text(json.dumps({**manifest, "files": sizes}))
    put(str(root / name), f"{path}/{name}")


def _is_manifest(name: str) -> bool:
    return name == MANIFEST or SHARD_MANIFEST.fullmatch(name) is not None


def _restore(root: Path, who: tuple[int, int] | None, get: Get | None, sizes: Sizes | None) -> float | None:
    told = where()
    root.mkdir(parents=True, exist_ok=True)
    if told is None or not told.restored_from:
        return None
    path = told.restored_from
    if get is None:
        client = _client(told)
        get, sizes = client.get, client.sizes
        try:
            return _restore_whole(root, path, who, get)
        except urllib.error.HTTPError as error:
            if error.code != 404 or not error.geturl().endswith(f"/{MANIFEST}"):
                raise
    elif sizes is None or f"{path}/{MANIFEST}" in sizes(f"{path}/"):
        return _restore_whole(root, path, who, get)
    return _restore_shards(root, path, who, get, sizes(f"{path}/"))


def _restore_whole(root: Path, path: str, who: tuple[int, int] | None, get: Get) -> float:
    get(f"{path}/{MANIFEST}", str(root / MANIFEST))
    manifest = json.loads((root / MANIFEST).read_text())
    _download(root, path, manifest["files"], get, of_others=who is not None)
    return float(manifest["progress"])


def _restore_shards(root: Path, path: str, who: tuple[int, int] | None, get: Get, sizes: Mapping[str, int]) -> float:
    """Download what the same process wrote, if there are as many now as there were then, and all of it otherwise."""
    manifests = _complete(path, who[1] if who else 0, get, sizes)
    as_before = who is not None and who[1] == len(manifests)
    for rank, manifest in enumerate(manifests):
        if who is None or not as_before or rank == who[0]:
            _download(root, path, manifest["files"], get, of_others=who is not None and not as_before)
    return float(manifests[0]["progress"])


def _complete(path: str, world: int, get: Get, sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    """Read the manifests of a complete set: of `world` processes if there is one, else of the most."""
    names = [SHARD_MANIFEST.fullmatch(key[len(path) + 1 :]) for key in sizes]
    found = {(int(name[1]), int(name[2])) for name in names if name}
    for many in sorted({of for _, of in found}, key=lambda of: (of != world, -of)):
        if any((rank, many) not in found for rank in range(many)):
            continue
        manifests = [_get_json(f"{path}/outlast-{rank}-of-{many}.json", get) for rank in range(many)]
        files = [(f"{path}/{name}", size) for each in manifests for name, size in each["files"].items()]
        together = len({(each["progress"], each.get("run", "")) for each in manifests}) == 1
        if together and all(sizes.get(key) == size for key, size in files):
            return manifests
    raise OSError(f"{path} is no complete checkpoint")


def _get_json(key: str, get: Get) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        get(key, f"{scratch}/manifest")
        found: dict[str, Any] = json.loads(Path(scratch, "manifest").read_text())
        return found


def _download(root: Path, path: str, files: Mapping[str, int], get: Get, *, of_others: bool) -> None:
    for name, size in files.items():
        file = root / name
        if root.resolve() not in file.resolve().parents:
            raise OSError(f"{name} would lie outside of {root}")
        file.parent.mkdir(parents=True, exist_ok=True)
        get(f"{path}/{name}", str(file))
        if file.stat().st_size != size:
            raise OSError(f"{path}/{name} has {file.stat().st_size} bytes instead of {size}")
        if of_others:
            _others[file.resolve()] = file.stat().st_mtime_ns


# --- several processes


def _who() -> tuple[int, int]:
    """Return the rank of this process, and how many processes there are."""
    if (torch := _ready("torch")) is not None:
        return int(torch.distributed.get_rank()), int(torch.distributed.get_world_size())
    if (jax := _ready("jax")) is not None:
        return int(jax.process_index()), int(jax.process_count())
    rank = os.environ.get("RANK") or _read(IDENTITY / "member") or "0"
    return int(rank), int(os.environ.get("WORLD_SIZE") or _machines())


def _machines() -> int:
    """Count the machines of the training: the members of the gang."""
    return int(_read(IDENTITY / "size") or 1)


def _ready(name: str) -> Any:
    """Return torch or JAX if the program has imported it and set it up for several processes; None otherwise."""
    module = sys.modules.get(name)
    distributed = getattr(module, "distributed", None)
    if distributed is None or (name == "torch" and not distributed.is_available()):
        return None
    return module if distributed.is_initialized() else None


def _run() -> str:
    """Name this start of the processes, the same in all of them: torchrun may start them again in the same pod."""
    return "/".join(filter(None, (os.environ.get(f"TORCHELASTIC_{name}") for name in ("RUN_ID", "RESTART_COUNT"))))


def _agreed_by_torch(torch: Any, flag: bool) -> bool:
    distributed = torch.distributed
    by_cpu = "gloo" in str(distributed.get_backend()) or not torch.cuda.is_available()
    device = torch.device("cpu") if by_cpu else torch.device("cuda", torch.cuda.current_device())
    told = torch.tensor([int(bool(flag))], device=device)
    distributed.all_reduce(told, op=distributed.ReduceOp.MAX)
    return bool(told.item())


def _agreed_by_jax(flag: bool) -> bool:
    import numpy
    from jax.experimental import multihost_utils

    return bool(numpy.any(multihost_utils.process_allgather(numpy.array(bool(flag)))))


_met: dict[str, _Neighbours] = {}


def _neighbours(rank: int, world: int) -> _Neighbours:
    """Meet the other processes at the first call; later calls return the same object."""
    # torchrun chooses MASTER_PORT for each of its runs. Otherwise all processes are children of the same one.
    run = f"{os.environ.get('MASTER_PORT') or os.getppid()}-{os.environ.get('TORCHELASTIC_RESTART_COUNT') or 0}"
    if run not in _met:
        place: Place = (os.path.join(tempfile.gettempdir(), f"outlast-{os.getuid()}-{run}"), 0)
        if _machines() > 1:
            host, _, port = _read(IDENTITY / "coordinator").rpartition(":")
            place = host, int(port) + 1
        _met[run] = _Neighbours(rank, world, place)
    return _met[run]


class _Neighbours:
    """Processes without a framework: each tells rank 0 its flag, and is told whether one of them has raised it."""

    def __init__(self, rank: int, world: int, place: Place) -> None:
        self._peers = _listen(place, world) if rank == 0 else [_connect(place, rank)]
        self._rank = rank

    def agreed(self, flag: bool) -> bool:
        if self._rank:
            [first] = self._peers
            first.sendall(bytes([flag]))
            return _byte(first)
        told = [_byte(peer) for peer in self._peers]
        answer = flag or any(told)
        for peer in self._peers:
            peer.sendall(bytes([answer]))
        return answer


def _listen(place: Place, world: int) -> list[socket.socket]:
    path, port = place
    if not port:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    with _door(place) as door:
        door.settimeout(MEET_SECONDS)
        if port:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(("", port))
        else:
            door.bind(path)
            os.chmod(path, 0o600)
        door.listen(world)
        peers: dict[int, socket.socket] = {}
        while len(peers) < world - 1:
            peer = door.accept()[0]
            peer.settimeout(None)
            rank = peer.recv(_RANK.size)
            if len(rank) == _RANK.size:
                peers[_RANK.unpack(rank)[0]] = peer
    if not port:
        os.unlink(path)
    return [peers[rank] for rank in sorted(peers)]


def _connect(place: Place, rank: int) -> socket.socket:
    path, port = place
    deadline = time.monotonic() + MEET_SECONDS
    while True:
        door = _door(place)
        try:
            door.connect(place if port else path)
            door.sendall(_RANK.pack(rank))
            return door
        except OSError:  # nobody listens yet, or DNS does not know the first machine yet
            door.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(1 if port else 0.05)


def _door(place: Place) -> socket.socket:
    return socket.socket(socket.AF_INET if place[1] else socket.AF_UNIX)


def _byte(peer: socket.socket) -> bool:
    told = peer.recv(1)
    if not told:
        raise ConnectionError("agreed: another process of this training has ended")
    return told != b"\0"


# --- the bucket


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""


def _client(told: Where) -> _Gcs:
    if told.type != "gcs":
        raise OSError(f"storage of type {told.type}: pass the functions put and get of your own client")
    return _Gcs(told)


class _Gcs:
    """Put and get objects by the XML API of GCS."""

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

    def sizes(self, prefix: str) -> dict[str, int]:
        found: dict[str, int] = {}
        query = {"list-type": "2", "prefix": prefix}
        while True:
            page = _again(functools.partial(self._page, f"{self._root}?{urllib.parse.urlencode(query)}"))
            for each in page.findall("{*}Contents"):
                found[each.findtext("{*}Key", "")] = int(each.findtext("{*}Size", "0"))
            if not (token := page.findtext("{*}NextContinuationToken")):
                return found
            query["continuation-token"] = token

    def _page(self, url: str) -> xml.etree.ElementTree.Element:
        with urllib.request.urlopen(urllib.request.Request(url, headers=self._headers()), timeout=SECONDS) as answer:
            return xml.etree.ElementTree.fromstring(answer.read())

    def _request(self, key: str, method: str, headers: dict[str, str], body: object = None) -> urllib.request.Request:
        url = f"{self._root}/{urllib.parse.quote(key)}"
        return urllib.request.Request(url, data=body, headers=headers, method=method)  # type: ignore[arg-type]

    def _headers(self) -> dict[str, str]:
        if not self._asks_for_a_token:
            return {}
        request = urllib.request.Request(TOKEN_URL, headers={"Metadata-Flavor": "Google"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return {"Authorization": f"Bearer {json.load(answer)['access_token']}"}


def _again(call: Callable[[], T]) -> T:
    """Retry a few times: what the service cannot do now it may do a second later."""
    attempt = 0
    while True:
        try:
            return call()
        except OSError as error:  # URLError and time-outs among them
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 429)
            if refused or attempt == TRIES - 1:
                raise
        time.sleep(2**attempt)
        attempt += 1
