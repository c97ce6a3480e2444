"""A root file system with Python and nothing else, from Debian's packages, without root and without a container.

Packages are unpacked, and none of their scripts run. So there is no shell and no package manager in the image. What the
packages are is recorded as in Google's distroless images, in ``var/lib/dpkg/status.d``, in which scanners look.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SUITE = "trixie"
PYTHON = "3.13"
"""The version of that release's Python."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PROVISION = Path(__file__).parents[1] / "deploy" / "images" / "provision.sh"

_PACKAGES = (f"python{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", "libstdc++6", "netbase")
_ALONE = ("ca-certificates",)
"""Without what it depends on: programs that its scripts need."""
_LEFT_OUT = ("debconf",)
"""What scripts alone need."""
_SURPLUS = ("doc", "man", "locale", "lintian", "bug", "info")


class ImageError(Exception):
    """The image cannot be built; the message says why."""


def unpack(root: Path, work: Path, architecture: str, mirror: str | None) -> None:
    """Make the root file system.

    Args:
        root: The directory to make.
        work: A directory for packages.
        architecture: Debian's name, such as ``amd64``.
        mirror: A mirror whose packages of today are taken. Without one they are those of ``SNAPSHOT`` of
            ``deploy/images/provision.sh``, so that the image is the same tomorrow.

    Raises:
        ImageError: Packages cannot be had.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb") or not KEYRING.exists():
        raise ImageError(
            f"make image needs apt-get, dpkg-deb and {KEYRING}, as Debian and Ubuntu have them "
            "(apt install debian-archive-keyring); elsewhere build deploy/Dockerfile with a container engine"
        )
    for package in _fetched(work, architecture, mirror):
        name = _field(package, "Package")
        if name in _LEFT_OUT:
            continue
        _run("dpkg-deb", "--extract", package, root)
        recorded = root / "var/lib/dpkg/status.d" / name
        recorded.parent.mkdir(parents=True, exist_ok=True)
        recorded.write_text(_run("dpkg-deb", "--field", package))
    _complete(root)


def _fetched(work: Path, architecture: str, mirror: str | None) -> list[Path]:
    """Download the packages with what they depend on, each as signed by Debian."""
    for name in ("lists/partial", "cache/archives/partial", "alone"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(_sources(mirror))
    options = {
        "Dir::Etc::SourceList": work / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": work / "lists",
        "Dir::State::Status": work / "status",
        "Dir::Cache": work / "cache",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Acquire::Languages": "none",
        "Acquire::Check-Valid-Until": "false",
        **({"APT::Sandbox::User": "root"} if os.geteuid() == 0 else {}),
    }
    apt = ["apt-get", "-qq", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    _run(*apt, "update")
    _run(*apt, "install", "--yes", "--download-only", "--no-install-recommends", *_PACKAGES)
    _run(*apt, "download", *_ALONE, cwd=work / "alone")
    found = [*(work / "cache/archives").glob("*.deb"), *(work / "alone").glob("*.deb")]
    return sorted(found, key=lambda path: path.name)


def _sources(mirror: str | None) -> str:
    signed = f"deb [signed-by={KEYRING}]"
    if mirror:
        return f"{signed} {mirror} {SUITE} main\n"
    provision = PROVISION.read_text()
    kept = re.search(r"kept=(\S+)", provision)
    date = re.search(r"^SNAPSHOT=(\S+)", provision, re.MULTILINE)
    if not kept or not date:
        raise ImageError(f"{PROVISION} names no snapshot of Debian")
    archive = f"{signed} {kept[1]}"
    return f"{archive}/debian/{date[1]} {SUITE} main\n{archive}/debian-security/{date[1]} {SUITE}-security main\n"


def _complete(root: Path) -> None:
    """Add what the scripts of packages would have made."""
    for name in ("bin", "sbin", "lib", "lib64"):
        if not (root / name).exists() and (root / "usr" / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    for name in ("python3", "python"):
        (root / "usr/bin" / name).unlink(missing_ok=True)
        (root / "usr/bin" / name).symlink_to(f"python{PYTHON}")
    certificates = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_text("".join(each.read_text().rstrip("\n") + "\n" for each in certificates))
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/:/usr/sbin/nologin\noutlast:x:65532:65532:outlast:/:/usr/sbin/nologin\n"
    )
    (root / "etc/group").write_text("root:x:0:\noutlast:x:65532:\n")
    (root / "tmp").mkdir(exist_ok=True)
    for name in _SURPLUS:
        shutil.rmtree(root / "usr/share" / name, ignore_errors=True)


def _field(package: Path, name: str) -> str:
    return _run("dpkg-deb", "--field", package, name).strip()


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    return run(command, cwd=cwd)


def run(command: Sequence[str | Path], cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Run a program, and return what it printed.

    Raises:
        ImageError: It fails; the message has its last lines.
    """
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ImageError(f"{command[0]} failed:\n" + "\n".join((done.stdout + done.stderr).splitlines()[-12:]))
    return done.stdout
