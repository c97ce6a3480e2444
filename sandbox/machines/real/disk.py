"""The file systems with which machines and containers start, built once and cached.

``deploy/images/provision.sh`` makes a machine's, so that what runs here is what users build.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from sandbox.binaries import Progress, build_lock
from sandbox.machines.real.debian import RELEASE, bootstrap, forget_host, mirror_of, run
from sandbox.machines.real.layers import UNPACK, packed, write_archive
from sandbox.settings import cache_dir

DEPLOY = Path(__file__).parents[3] / "deploy"
PROVISION = DEPLOY / "images" / "provision.sh"
LOCK = DEPLOY / "requirements.lock"
PYTHON = "3.13"
"""The version of that release's Python."""

_MACHINE_PACKAGES = "ca-certificates,tini,busybox-static"
_TRAINING_PACKAGES = "python3-minimal,python3-numpy"
"""The packages beside those of provisioning: an init for the machine, and what a pod's first process is made of."""


class Disks:
    """Builds the file systems that are missing; ``binaries`` is the directory with kubelet and kubeadm."""

    def __init__(self, binaries: Path, progress: Progress) -> None:
        self._binaries = binaries
        self._progress = progress

    async def all(self) -> None:
        """Build everything that is missing.

        Raises:
            SandboxError: it cannot be built.
        """
        await self.layers()

    async def machine(self) -> Path:
        """Return the root file system of a machine.

        Raises:
            SandboxError: it cannot be built; the message ends with the output of the command that failed.
        """
        contents = PROVISION.read_text() + self._binaries.name + _MACHINE_PACKAGES
        return await self._ensure("machine", contents, "3 min", self._build_machine)

    async def training(self) -> Path:
        """Return the root file system of a training's container, with Python and NumPy.

        Raises:
            SandboxError: it cannot be built.
        """
        return await self._ensure("training", _TRAINING_PACKAGES, "2 min", self._build_training)

    async def product(self) -> Path:
        """Return what Outlast's own image adds to ``training``: its dependencies, as in ``deploy/Dockerfile``."""
        base = await self.training()

        async def build(root: Path) -> None:
            await _build_product(root, base)

        return await self._ensure("product", PYTHON + LOCK.read_text(), "2 min", build)

    async def layers(self) -> Path:
        """Return what every machine has pulled already: ``training``, and what ``product`` adds to it.

        Raises:
            SandboxError: it cannot be built.
        """
        machine, roots = await self.machine(), [await self.training(), await self.product()]

        async def build(target: Path) -> None:
            await asyncio.to_thread(target.mkdir)
            archive = target / "archive"
            files = [await asyncio.to_thread(packed, root) for root in roots]
            await asyncio.to_thread(write_archive, archive, files)
            await run("unshare", "--mount", "bash", str(UNPACK), str(machine), str(target), str(archive))
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
            await run("rm", "-rf", "--one-file-system", str(part))
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
        await bootstrap(root, _MACHINE_PACKAGES)
        binaries = root / "tmp/binaries"
        binaries.mkdir()
        for name in ("kubelet", "kubeadm"):
            await asyncio.to_thread(shutil.copy, self._binaries / name, binaries)
        await asyncio.to_thread(shutil.copy, PROVISION, root / "tmp/provision.sh")
        # No package may start a service in here.
        policy = root / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        await run(
            "unshare", "--mount", "sh", "-ec",
            'mount -t proc proc "$0/proc"; '
            'exec env KUBERNETES_BINARIES=/tmp/binaries DEBIAN_MIRROR="$1" chroot "$0" sh /tmp/provision.sh',
            str(root), mirror_of(root),
        )  # fmt: skip
        await run("rm", "-rf", str(binaries), str(root / "tmp/provision.sh"), str(policy))
        forget_host(root)

    async def _build_training(self, root: Path) -> None:
        await bootstrap(root, _TRAINING_PACKAGES)
        share = root / "usr/share"
        await run("rm", "-rf", *(str(share / name) for name in ("doc", "man", "locale", "info")))
        forget_host(root)


async def _build_product(root: Path, base: Path) -> None:
    """Install the packages for the container's Python, not for ours, and compile them, as they are read-only there."""
    library, programs = root / "opt/outlast/lib", root / "opt/outlast/bin"
    library.mkdir(parents=True)
    programs.mkdir()
    (programs / "python").symlink_to("/usr/bin/python3")
    platforms = [f"--platform={name}_x86_64" for name in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")]
    await run(
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps",
        "--require-hashes", "--only-binary=:all:", f"--python-version={PYTHON}", *platforms,
        "--target", str(library), "--requirement", str(LOCK),
    )  # fmt: skip
    await run(
        "unshare", "--mount", "sh", "-ec",
        'mount --bind "$0" "$1/mnt"; exec chroot "$1" python3 -m compileall -q -s /mnt -p / /mnt/opt/outlast/lib',
        str(root), str(base),
    )  # fmt: skip
