"""Programs of a VM that the sandbox itself plays, called through small shims in the VM's bin/."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import stat
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_SUDO = """\
#!/bin/sh
while [ $# -gt 0 ]; do
  case "$1" in
    --) shift; break ;;
    -u | -g | --user | --group) shift 2 ;;
    -*) shift ;;
    *=*) export "$1"; shift ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || exec /bin/sh
exec "$@"
"""
"""The ssh user may do everything in the VM already, so sudo only has to run the command."""

_HARMLESS = """\
#!/bin/sh
echo "${0##*/}: not run in the sandbox" >&2
"""
_HARMLESS_PROGRAMS = (
    *("apt", "apt-get", "apt-key", "add-apt-repository", "dpkg", "snap", "yum", "dnf"),
    *("modprobe", "sysctl", "swapoff", "swapon", "mount", "umount", "mkfs", "iptables", "ufw", "useradd", "usermod"),
    *("reboot", "shutdown", "poweroff", "halt", "timedatectl", "hostnamectl", "apt-mark", "update-grub", "docker"),
)
"""Programs that would change the machine on which the sandbox runs do nothing but say so."""


@dataclass(frozen=True)
class Invocation:
    """One call of a program: its arguments, the caller's directory, and where its output goes."""

    argv: list[str]
    cwd: Path
    out: Callable[[str], None]
    err: Callable[[str], None]


Program = Callable[[Invocation], Awaitable[int]]


class Guest:
    """The programs of one VM."""

    def __init__(self, root: Path, programs: Mapping[str, Program]) -> None:
        self._root = root
        self._programs = programs
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._directory: Path | None = None

    async def start(self) -> None:
        """Install the shims and wait for calls."""
        # A socket's path may have at most 107 characters, and the VM's own directory can be deeper.
        self._directory = Path(tempfile.mkdtemp(prefix="outlast-vm-"))
        path = self._directory / "guest.sock"
        self._server = await asyncio.start_unix_server(self._serve, path)
        source = Path(__file__).with_name("shim.py").read_text()
        shim = f"#!{sys.executable} -IS\n" + source.replace("@SOCKET@", str(path))
        _install(self._root / "bin", dict.fromkeys(self._programs, shim))
        _install(self._root / "bin", {"sudo": _SUDO} | dict.fromkeys(_HARMLESS_PROGRAMS, _HARMLESS))

    async def cut(self) -> None:
        """Stop answering calls."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Run one program for as long as its shim lives."""
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        with contextlib.suppress(OSError), contextlib.closing(writer):
            call = json.loads(await reader.readline())
            program = asyncio.create_task(self._run(call, writer))
            caller_gone = asyncio.create_task(reader.read())
            try:
                await asyncio.wait({program, caller_gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                program.cancel()
                caller_gone.cancel()
                await asyncio.gather(program, caller_gone, return_exceptions=True)
            await writer.drain()

    async def _run(self, call: dict[str, object], writer: asyncio.StreamWriter) -> None:
        def say(answer: dict[str, object]) -> None:
            writer.write(json.dumps(answer).encode() + b"\n")

        name = str(call["program"])
        argv = call["argv"]
        assert isinstance(argv, list)
        invocation = Invocation(
            argv, Path(str(call["cwd"])), lambda line: say({"out": line}), lambda line: say({"err": line})
        )
        try:
            say({"exit": await self._programs[name](invocation)})
        except Exception as error:
            log.exception("%s %s failed", name, argv)
            say({"err": f"{name}: {error}"})
            say({"exit": 1})


def _install(directory: Path, programs: Mapping[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in programs.items():
        path = directory / name
        path.write_text(text)
        path.chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
