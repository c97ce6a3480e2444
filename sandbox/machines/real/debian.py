"""A minimal Debian in a directory, from the mirror that this machine's own apt uses."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.processes import kill

RELEASE = "trixie"


async def bootstrap(root: Path, packages: str) -> None:
    """Install a minimal Debian and some packages, from the mirror that this machine's own apt uses."""
    tools = root.with_name(f"{root.name}.debootstrap")
    apt = await _apt(tools)
    debootstrap, directory = shutil.which("debootstrap") or "", {}
    if not debootstrap:  # it is a script that needs no installation
        await run(*apt, "download", "debootstrap", cwd=tools)
        await run("dpkg", "-x", str(next(tools.glob("*.deb"))), str(tools))
        debootstrap = str(tools / "usr/sbin/debootstrap")
        directory = {"DEBOOTSTRAP_DIR": str(tools / "usr/share/debootstrap")}
    mirror = [each] if (each := await _mirror(apt)) else []
    await run(
        debootstrap, "--variant=minbase", f"--include={packages}", RELEASE, str(root), *mirror, environment=directory
    )
    await run("rm", "-rf", str(tools))
    # How this machine reaches packages: proxies, and settings for a mirror that was frozen.
    own = Path("/etc/apt/apt.conf.d")
    await run("cp", "-r", f"{own}/.", str(root / own.relative_to("/")))
    (root / own.relative_to("/") / "99sandbox").write_text('Acquire::Check-Valid-Until "false";\n')
    await run("cp", "--dereference", "/etc/resolv.conf", str(root / "etc/resolv.conf"))


def mirror_of(root: Path) -> str:
    """Return the mirror that a bootstrapped Debian came from, by its first source."""
    lines = (line.split() for line in (root / "etc/apt/sources.list").read_text().splitlines())
    return next(words[1] for words in lines if words[:1] == ["deb"])


async def _apt(tools: Path) -> list[str]:
    """Return apt-get with this machine's sources but our own lists: a new machine has none, and we change none."""
    for directory in ("lists/partial", "cache/archives/partial"):
        (tools / directory).mkdir(parents=True, exist_ok=True)
    state = ("-o", f"Dir::State::lists={tools}/lists", "-o", f"Dir::Cache={tools}/cache")
    apt = ["apt-get", *state, "-o", "Acquire::Check-Valid-Until=false", "-o", "APT::Sandbox::User=root"]
    await run(*apt, "-qq", "update")
    return apt


async def _mirror(apt: list[str]) -> str | None:
    """Return OUTLAST_DEBIAN_MIRROR, else the site of this machine's own packages if it is a Debian, else None."""
    if chosen := os.environ.get("OUTLAST_DEBIAN_MIRROR"):
        return chosen
    if "ID=debian\n" not in Path("/etc/os-release").read_text():  # noqa: ASYNC240 - a line or two
        return None
    sites = await run(*apt, "indextargets", "--format", "$(SITE)", "Identifier: Packages")
    return next((site for site in sites.splitlines() if "security" not in site), None)


def forget_host(root: Path) -> None:
    """Remove the traces of the machine on which it was built."""
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    (root / "etc/apt/apt.conf.d/99sandbox").unlink()


async def run(*command: str, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Run a command, and return what it printed.

    Raises:
        SandboxError: it fails; the message has its last lines.
    """
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
