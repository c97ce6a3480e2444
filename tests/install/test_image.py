"""``make image``: built here, and started as a container starts it, in a root of its own, as nobody."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from release import image
from release.archive import digest_of
from release.debian import KEYRING, run
from sandbox.claims import free_port
from sandbox.control_plane import ControlPlane
from sandbox.temporal_server import TemporalServer
from tests.e2e.rig import REPOSITORY

pytestmark = pytest.mark.timeout(1500)

Json = dict[str, Any]


def why_not() -> str | None:
    if os.geteuid() != 0:
        return "only root may change to another root and another user"
    if not shutil.which("apt-get") or not KEYRING.exists():
        return "make image needs a Debian's apt"
    return None


def mirror() -> str:
    """Return the site of this machine's own packages, which it reaches."""
    if chosen := os.environ.get("OUTLAST_DEBIAN_MIRROR"):
        return chosen
    sites = run(["apt-get", "indextargets", "--format", "$(SITE)", "Identifier: Packages"]).splitlines()
    return next(site for site in sites if "security" not in site)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the image from the mirror of this machine's own packages."""
    if reason := why_not():
        pytest.skip(reason)
    work = tmp_path_factory.mktemp("image")
    target = work / "outlast.tar"
    await asyncio.to_thread(image.build, target, "1.2.3", "x86_64", mirror())
    return target


@pytest.fixture(scope="module")
def unpacked(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive_at(archive, tmp_path_factory.mktemp("oci"))


def archive_at(archive: Path, directory: Path) -> Path:
    with tarfile.open(archive) as file:
        file.extractall(directory, filter="data")
    return directory


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


def manifest_of(layout: Path) -> Json:
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    return dict(json.loads(blob(layout, entry["digest"]).read_text()))


def config_of(layout: Path) -> Json:
    return dict(json.loads(blob(layout, manifest_of(layout)["config"]["digest"]).read_text()))


@pytest.fixture(scope="module")
def root(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay the image's layers one over the other."""
    target = tmp_path_factory.mktemp("root")
    for each in manifest_of(unpacked)["layers"]:
        subprocess.run(["tar", "-xzpf", blob(unpacked, each["digest"]), "-C", target], check=True)
    for name in ("dev", "proc"):
        (target / name).mkdir()
    target.chmod(0o755)
    return target


def test_each_blob_is_what_it_is_called(unpacked: Path) -> None:
    blobs = list((unpacked / "blobs" / "sha256").iterdir())
    assert len(blobs) == 5
    assert all(digest_of(path.read_bytes()) == f"sha256:{path.name}" for path in blobs)
    layers = manifest_of(unpacked)["layers"]
    assert len(config_of(unpacked)["rootfs"]["diff_ids"]) == len(layers) == 3
    assert sum(each["size"] for each in layers) < 120_000_000


def test_it_holds_one_program_and_belongs_to_root(unpacked: Path, root: Path) -> None:
    programs = {path.name for folder in ("usr/bin", "usr/sbin") for path in (root / folder).glob("*")}
    assert programs == {"python", "python3", "python3.13", "update-ca-certificates"}
    assert config_of(unpacked)["config"]["User"] == "65532:65532"
    writable = [path for path in root.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert writable == [root / "tmp"]
    assert (root / "var/lib/dpkg/status.d/libc6").read_text().startswith("Package: libc6\n")


def started(layout: Path, root: Path, *arguments: str) -> list[str]:
    """Return the command that starts the image as a container engine does, with some arguments in place of its own."""
    config = config_of(layout)["config"]
    user = config["User"]
    return [
        str(shutil.which("chroot")), f"--userspec={user}", str(root), "/usr/bin/python", "-c",
        f"import os, sys; os.chdir({config['WorkingDir']!r}); os.execvp({config['Entrypoint'][0]!r}, sys.argv[1:])",
        *config["Entrypoint"], *(arguments or config["Cmd"]),
    ]  # fmt: skip


def environment(layout: Path, **more: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in config_of(layout)["config"]["Env"]) | more


def test_it_says_what_it_lacks_when_it_is_started(unpacked: Path, root: Path) -> None:
    done = subprocess.run(
        started(unpacked, root, "programs.node_agent"), env=environment(unpacked), capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "NODE_NAME" in done.stderr


@pytest_asyncio.fixture(loop_scope="session")
async def bridge(
    unpacked: Path, root: Path, control_plane: ControlPlane, temporal: TemporalServer
) -> AsyncIterator[str]:
    """Start the image's bridge on a real control plane and a real Temporal, and return its health address."""
    await control_plane.kubectl("apply", "--server-side", "-f", REPOSITORY / "deploy" / "crd")
    await control_plane.kubectl("apply", "-f", REPOSITORY / "deploy/base/namespace.yaml")
    shutil.copyfile(control_plane.kubeconfig, root / "tmp" / "kubeconfig")
    (root / "tmp" / "kubeconfig").chmod(0o644)
    health = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        *started(unpacked, root, "crd_bridge"),
        env=environment(
            unpacked, KUBECONFIG="/tmp/kubeconfig", TEMPORAL_ADDRESS=temporal.address, OUTLAST_HEALTH_ADDRESS=health
        ),
    )  # fmt: skip
    yield health
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 60) == 0


@pytest.mark.asyncio(loop_scope="session")
async def test_its_bridge_works(bridge: str) -> None:
    async with asyncio.timeout(300), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://{bridge}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.5)
