"""The file systems that machines and containers begin with, built once and cached.

A machine's is what `deploy/images/provision.sh` makes of it, so that what users build is what runs here.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from sandbox.binaries import Progress, build_lock
from sandbox.errors import SandboxError
from sandbox.machines.real.layers import UNPACK, packed, write_archive
from sandbox.processes import kill
from sandbox.settings import cache_dir

RELEASE = "trixie"
DEPLOY = Path(__file__).parents[3] / "deploy"
PROVISION = DEPLOY / "images" / "provision.sh"
LOCK = DEPLOY / "requirements.lock"
PYTHON = "3.13"  # of that release

#: Beside what provisioning installs: an init for the machine, and what a pod's first process is made of.
_MACHINE_PACKAGES = "ca-certificates,tini,busybox-static"
_TRAINING_PACKAGES = "python3-minimal,python3-numpy"


class Disks:
    """Builds what is missing; `binaries` is the directory with kubelet and kubeadm."""

    def __init__(self, binaries: Path, progress: Progress) -> None:
        self._binaries = binaries
        self._progress = progress

    async def all(self) -> None:
        """Build whatever is missing. Raises as `machine`."""
        await self.layers()

    async def machine(self) -> Path:
        """The root file system of a machine.

        Raises:
            SandboxError: where it cannot be built; the message ends with what the failing command said.
        """
        contents = PROVISION.read_text() + self._binaries.name + _MACHINE_PACKAGES
        return await self._ensure("machine", contents, "3 min", self._build_machine)

    async def training(self) -> Path:
        """The root file system of a training's container: Python and NumPy. Raises as `machine`."""
        return await self._ensure("training", _TRAINING_PACKAGES, "2 min", self._build_training)

    async def product(self) -> Path:
        """What Outlast's own image adds to `training`: its dependencies, as `deploy/Dockerfile` installs them."""
        base = await self.training()

        async def build(root: Path) -> None:
            await _build_product(root, base)

        return await self._ensure("product", PYTHON + LOCK.read_text(), "2 min", build)

    async def layers(self) -> Path:
        """What every machine has pulled beforehand: `training`, and what `product` adds. Raises as `machine`."""
        machine, roots = await self.machine(), [await self.training(), await self.product()]

        async def build(target: Path) -> None:
            await asyncio.to_thread(target.mkdir)
            archive = target / "archive"
            files = [await asyncio.to_thread(packed, root) for root in roots]
            await asyncio.to_thread(write_archive, archive, files)
            await _run("unshare", "--mount", "bash", str(UNPACK), str(machine), str(target), str(archive))
            archive.unlink()

        contents = UNPACK.read_text() + "".join(root.name for root in (machine, *roots))
        return await self._ensure("layers", contents, "1 min", build)

    async def _ensure(self, name: str, contents: str, about: str, build: Callable[[Path], Awaitable[None]]) -> Path:
        key = hashlib.sha256(f"{RELEASE}\n{contents}".encode()).hexdigest()[:12]
        target = cache_dir() / f"{name}-{key}"
        if target.is_dir():
            return target
        async with build_lock(self._progress):
            if target.is_dir():
                return target
            part = target.with_name(f".{target.name}.part")
            await _run("rm", "-rf", "--one-file-system", str(part))
            began = time.monotonic()
            work = asyncio.ensure_future(build(part))
            while not work.done():
                told = f"{name}'s file system (about {about}, once) … {time.monotonic() - began:.0f} s"
                self._progress(f"building a {told}")
                await asyncio.wait({work}, timeout=10)
            work.result()
            part.rename(target)
            self._progress(f"built a {name}'s file system in {time.monotonic() - began:.0f} s")
        return target

    async def _build_machine(self, root: Path) -> None:
        await _bootstrap(root, _MACHINE_PACKAGES)
        binaries = root / "tmp/binaries"
        binaries.mkdir()
        for name in ("kubelet", "kubeadm"):
            await asyncio.to_thread(shutil.copy, self._binaries / name, binaries)
        await asyncio.to_thread(shutil.copy, PROVISION, root / "tmp/provision.sh")
        # No package may start a service in here.
        policy = root / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        await _run(
            "unshare", "--mount", "sh", "-ec",
            'mount -t proc proc "$0/proc"; '
            'exec env KUBERNETES_BINARIES=/tmp/binaries DEBIAN_MIRROR="$1" chroot "$0" sh /tmp/provision.sh',
            str(root), _mirror_of(root),
        )  # fmt: skip
        await _run("rm", "-rf", str(binaries), str(root / "tmp/provision.sh"), str(policy))
        _forget_hosts(root)

    async def _build_training(self, root: Path) -> None:
        await _bootstrap(root, _TRAINING_PACKAGES)
        share = root / "usr/share"
        await _run("rm", "-rf", *(str(share / name) for name in ("doc", "man", "locale", "info")))
        _forget_hosts(root)


async def _build_product(root: Path, base: Path) -> None:
    """The packages for the container's Python, not for ours, compiled by it: nothing can be written where they run."""
    library, programs = root / "opt/outlast/lib", root / "opt/outlast/bin"
    library.mkdir(parents=True)
    programs.mkdir()
    (programs / "python").symlink_to("/usr/bin/python3")
    platforms = [f"--platform={name}_x86_64" for name in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")]
    await _run(
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps",
        "--require-hashes", "--only-binary=:all:", f"--python-version={PYTHON}", *platforms,
        "--target", str(library), "--requirement", str(LOCK),
    )  # fmt: skip
    await _run(
        "unshare", "--mount", "sh", "-ec",
        'mount --bind "$0" "$1/mnt"; exec chroot "$1" python3 -m compileall -q -s /mnt -p / /mnt/opt/outlast/lib',
        str(root), str(base),
    )  # fmt: skip


async def _bootstrap(root: Path, packages: str) -> None:
    """The least Debian with some packages more, from the mirror that this machine's own apt uses."""
    tools = root.with_name(f"{root.name}.debootstrap")
    apt = await _apt(tools)
    debootstrap, directory = shutil.which("debootstrap") or "", {}
    if not debootstrap:  # it is a script and needs no installing
        await _run(*apt, "download", "debootstrap", cwd=tools)
        await _run("dpkg", "-x", str(next(tools.glob("*.deb"))), str(tools))
        debootstrap = str(tools / "usr/sbin/debootstrap")
        directory = {"DEBOOTSTRAP_DIR": str(tools / "usr/share/debootstrap")}
    mirror = [each] if (each := await _mirror(apt)) else []
    await _run(
        debootstrap, "--variant=minbase", f"--include={packages}", RELEASE, str(root), *mirror, environment=directory
    )
    await _run("rm", "-rf", str(tools))
    # How this machine reaches packages: proxies, and what is said of a mirror that was frozen.
    own = Path("/etc/apt/apt.conf.d")
    await _run("cp", "-r", f"{own}/.", str(root / own.relative_to("/")))
    (root / own.relative_to("/") / "99sandbox").write_text('Acquire::Check-Valid-Until "false";\n')
    await _run("cp", "--dereference", "/etc/resolv.conf", str(root / "etc/resolv.conf"))


def _mirror_of(root: Path) -> str:
    """The mirror that a bootstrapped Debian came from, by its first source."""
    lines = (line.split() for line in (root / "etc/apt/sources.list").read_text().splitlines())
    return next(words[1] for words in lines if words[:1] == ["deb"])


async def _apt(tools: Path) -> list[str]:
    """apt-get with this machine's sources and lists of our own: a new machine has none, and its own are not ours."""
    for directory in ("lists/partial", "cache/archives/partial"):
        (tools / directory).mkdir(parents=True, exist_ok=True)
    state = ("-o", f"Dir::State::lists={tools}/lists", "-o", f"Dir::Cache={tools}/cache")
    apt = ["apt-get", *state, "-o", "Acquire::Check-Valid-Until=false", "-o", "APT::Sandbox::User=root"]
    await _run(*apt, "-qq", "update")
    return apt


async def _mirror(apt: list[str]) -> str | None:
    """OUTLAST_DEBIAN_MIRROR, else where this machine's packages come from if it is a Debian."""
    if chosen := os.environ.get("OUTLAST_DEBIAN_MIRROR"):
        return chosen
    if "ID=debian\n" not in Path("/etc/os-release").read_text():  # noqa: ASYNC240 - a line or two
        return None
    sites = await _run(*apt, "indextargets", "--format", "$(SITE)", "Identifier: Packages")
    return next((site for site in sites.splitlines() if "security" not in site), None)


def _forget_hosts(root: Path) -> None:
    """Leave nothing in it of the machine that it was built on."""
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    (root / "etc/apt/apt.conf.d/99sandbox").unlink()


async def _run(*command: str, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Run a command and return what it printed. Raises SandboxError with its last lines where it fails."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=os.environ | (environment or {}), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        kill(process)
        await process.wait()
        raise
    said = output.decode(errors="replace")
    if process.returncode != 0:
        raise SandboxError(f"{command[0]} failed:\n" + "\n".join(said.splitlines()[-12:]))
    return said
