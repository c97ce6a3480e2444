"""Outlast's image without a container engine: ``python -m release.image`` writes it into ``dist/``, as an OCI archive.

It has three layers: Python from Debian's packages, the dependencies as ``deploy/requirements.lock`` pins them, and our
own packages. All Python is compiled by the image's own interpreter, because a container's file system is read-only.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

from release.archive import layer, write
from release.debian import PYTHON, ImageError, run, unpack

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "deploy" / "requirements.lock"
LIBRARY = "opt/outlast/lib"
CODE = "srv/outlast"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Debian's and OCI's names of the architectures, by the kernel's."""

CONFIG = {
    "Entrypoint": ["python", "-m"],
    "Cmd": ["worker"],
    "User": "65532:65532",
    "WorkingDir": f"/{CODE}",
    "Env": [
        "PATH=/usr/bin",
        f"PYTHONPATH=/{LIBRARY}",
        "PYTHONUNBUFFERED=1",
        "PYTHONDONTWRITEBYTECODE=1",
        "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
        "LANG=C.UTF-8",
    ],
}


def main() -> int:
    """Build the image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    version = project["project"]["version"]
    machine = platform.machine()
    parser = argparse.ArgumentParser(description="build Outlast's image without a container engine")
    parser.add_argument("--output", type=Path, default=ROOT / "dist" / f"outlast-{version}-{machine}.tar")
    parser.add_argument(
        "--mirror",
        default=os.environ.get("DEBIAN_MIRROR") or None,
        help="a Debian mirror, for its packages of today instead of those of the date in deploy/images/provision.sh",
    )
    arguments = parser.parse_args()
    if machine not in ARCHITECTURES:
        print(f"{machine}: the image is built on {' or '.join(ARCHITECTURES)}, for the same", file=sys.stderr)
        return 1
    try:
        digest = build(arguments.output, version, machine, arguments.mirror)
    except ImageError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{arguments.output}\n{digest}")
    return 0


def build(output: Path, version: str, machine: str, mirror: str | None) -> str:
    """Build the image for this machine's architecture, and return its digest.

    Raises:
        ImageError: Packages cannot be had or installed.
    """
    with tempfile.TemporaryDirectory(prefix="outlast-image-") as work:
        root = Path(work) / "root"
        root.mkdir()
        unpack(root, Path(work) / "packages", ARCHITECTURES[machine], mirror)
        _install_dependencies(root, machine)
        _copy_code(root)
        _compile(root)
        layers = [layer(root, without=("opt", "srv"))]
        for top in ("opt", "srv"):
            layers.append(layer(_alone(root, top, Path(work))))
        return write(output, f"outlast:{version}", ARCHITECTURES[machine], layers, CONFIG)


def packages() -> list[str]:
    """List our packages, as the wheel has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return list(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])


def _install_dependencies(root: Path, machine: str) -> None:
    """Install what the lock names for the image's Python, not for ours."""
    platforms = [f"--platform={name}_{machine}" for name in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")]
    run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile",
            "--no-deps", "--require-hashes", "--only-binary=:all:", f"--python-version={PYTHON}", *platforms,
            "--target", root / LIBRARY, "--requirement", LOCK,
        ]
    )  # fmt: skip
    for surplus in (*(root / LIBRARY).rglob("tests"), root / LIBRARY / "bin"):
        shutil.rmtree(surplus, ignore_errors=True)


def _copy_code(root: Path) -> None:
    for package in packages():
        for file in sorted((ROOT / package).rglob("*.py")):
            target = root / CODE / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def _compile(root: Path) -> None:
    """Compile by the image's interpreter, which runs here by its own loader. The files need not be checked later.

    What it imports itself it must not write: that would contain the time.
    """
    (loader,) = (root / "usr").glob("lib*/ld-linux-*.so.*")
    libraries = next((root / "usr/lib").glob("*-linux-gnu"))
    python: list[str | Path] = [loader, "--library-path", libraries, root / f"usr/bin/python{PYTHON}"]
    environment = {
        "PYTHONHOME": str(root / "usr"),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
    }
    where = [root / "usr/lib" / f"python{PYTHON}", root / LIBRARY, root / CODE]
    options: list[str | Path] = ["-q", "--invalidation-mode", "unchecked-hash", "-s", root, "-p", "/"]
    run([*python, "-m", "compileall", *options, *where], environment=environment)


def _alone(root: Path, top: str, work: Path) -> Path:
    """Move a folder of the root into a root of its own."""
    alone = work / f"only-{top}"
    alone.mkdir()
    (root / top).rename(alone / top)
    return alone


if __name__ == "__main__":
    sys.exit(main())
