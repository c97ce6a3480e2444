"""`python -m sandbox`: bring a sandbox up, look at it, break it, take it down."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from sandbox import binaries
from sandbox.control import ControlClient
from sandbox.errors import SandboxError
from sandbox.processes import kill_leftovers
from sandbox.settings import PARTS, Settings
from sandbox.state import State

Command = Callable[[argparse.Namespace, Settings], Awaitable[None]]


def main() -> int:
    """Run one command; returns the exit code."""
    logging.basicConfig(format="%(name)s: %(message)s")
    logging.getLogger().handlers[0].setLevel(logging.WARNING)  # the rest goes to the log file
    arguments = _parser().parse_args()
    try:
        asyncio.run(_run(arguments))
    except (SandboxError, ValueError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--state", type=Path, default=Path(".sandbox"), help="the state directory (default: .sandbox)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(command: Command, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(command.__name__.strip("_"), help=help, description=help)
        # After the command too; SUPPRESS lets the one before it stand where none is given here.
        sub.add_argument("--state", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        sub.set_defaults(command=command)
        return sub

    up = add(_up, "bring a sandbox up and keep it until Ctrl-C")
    up.add_argument("--speed", type=float, default=1.0, help="divide all emulated durations by this (default: 1)")
    up.add_argument("--product", action="store_true", help="install Outlast and run its worker and bridge, too")
    up.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="run these only (default: all)")
    up.add_argument("--keep", action="store_true", help="keep etcd's and Temporal's data of the last run")
    add(_status, "show addresses, processes and VMs")
    add(_vms, "list the VMs")
    preempt = add(_preempt, "take a spot VM away")
    preempt.add_argument("vm")
    preempt.add_argument("--notice", type=float, default=30.0, help="seconds between notice and end (default: 30)")
    exhaust = add(_exhaust, "let a zone run out of capacity")
    exhaust.add_argument("zone")
    exhaust.add_argument("--machine-type", help="only for this machine type")
    restore = add(_restore, "give a zone its capacity back")
    restore.add_argument("zone")
    kill = add(_kill, "kill a child process (see status), as the OOM killer would")
    kill.add_argument("process")
    start = add(_start, "start a child process again")
    start.add_argument("process")
    logs = add(_logs, "print the log of a child process, or list the logs")
    logs.add_argument("process", nargs="?")
    add(_down, "end the sandbox, or clean up after one that crashed")
    add(_build, "build the executables now rather than at the first `up`")
    return parser


async def _run(arguments: argparse.Namespace) -> None:
    settings = Settings(
        state_dir=arguments.state,
        parts=tuple(getattr(arguments, "parts", PARTS)),
        speed=getattr(arguments, "speed", 1.0),
        product=getattr(arguments, "product", False),
        keep=getattr(arguments, "keep", False),
    )
    await arguments.command(arguments, settings)


async def _up(_: argparse.Namespace, settings: Settings) -> None:
    from sandbox.cloud import Cloud  # the one command that needs all servers: the others start at once without

    began = time.monotonic()

    def progress(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)

    cloud = Cloud(settings, progress)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # An event rather than a cancellation: a second Ctrl-C must not interrupt the way down.
        asyncio.get_running_loop().add_signal_handler(number, cloud.asked_to_stop.set)
    coming_up = asyncio.create_task(cloud.up())
    asked_to_stop = asyncio.create_task(cloud.asked_to_stop.wait())
    await asyncio.wait({coming_up, asked_to_stop}, return_when=asyncio.FIRST_COMPLETED)
    if coming_up.done():
        coming_up.result()
        _print_pairs(cloud.addresses)
        print(f"\nTo use it:  set -a; . {settings.env_file}; set +a\nCtrl-C ends it.", flush=True)
        await asked_to_stop
        progress("going down")
        await cloud.down()
    else:
        coming_up.cancel()
        await asyncio.wait({coming_up})
    progress("gone")


async def _status(_: argparse.Namespace, settings: Settings) -> None:
    status = await ControlClient.of(settings).status()
    _print_pairs(status["addresses"])
    print()
    for process in status["processes"]:
        state = f"pid {process['pid']}" if process["pid"] else f"ended with code {process['exitCode']}"
        print(f"{process['name']:<26}{state:<24}{process['log']}")
    print()
    _print_vms(status["vms"])


async def _vms(_: argparse.Namespace, settings: Settings) -> None:
    _print_vms(await ControlClient.of(settings).vms())


async def _preempt(arguments: argparse.Namespace, settings: Settings) -> None:
    await ControlClient.of(settings).preempt(arguments.vm, arguments.notice)


async def _exhaust(arguments: argparse.Namespace, settings: Settings) -> None:
    await ControlClient.of(settings).fault("exhaust", arguments.zone, machine_type=arguments.machine_type)


async def _restore(arguments: argparse.Namespace, settings: Settings) -> None:
    await ControlClient.of(settings).fault("restore_capacity", arguments.zone)


async def _kill(arguments: argparse.Namespace, settings: Settings) -> None:
    await ControlClient.of(settings).kill(arguments.process)


async def _start(arguments: argparse.Namespace, settings: Settings) -> None:
    await ControlClient.of(settings).start(arguments.process)


async def _logs(arguments: argparse.Namespace, settings: Settings) -> None:
    logs = {path.stem: path for path in sorted(settings.logs.glob("*.log"))}
    if not arguments.process:
        _print_pairs({name: str(path) for name, path in logs.items()})
        return
    if arguments.process not in logs:
        raise SandboxError(f"no log of {arguments.process}; there are: {', '.join(logs) or 'none'}")
    print(logs[arguments.process].read_text(errors="replace"), end="")


async def _down(_: argparse.Namespace, settings: Settings) -> None:
    state = State(settings.state_dir)
    if pid := state.running():
        # SIGTERM ends it in each of its phases, the way up included.
        os.kill(pid, signal.SIGTERM)
        if not await state.gone(deadline=60):
            raise SandboxError(f"the sandbox with pid {pid} does not end; kill it, then run this again")
        print("the sandbox is down")
        return
    killed = await kill_leftovers(settings.state_dir)
    settings.env_file.unlink(missing_ok=True)
    print(
        f"no sandbox runs in {settings.state_dir}" + (f"; ended {killed} processes of a crashed one" if killed else "")
    )


async def _build(_: argparse.Namespace, settings: Settings) -> None:
    await binaries.ensure()


def _print_pairs(pairs: dict[str, str]) -> None:
    for name, value in pairs.items():
        print(f"{name:<26}{value}")


def _print_vms(vms: list[dict[str, object]]) -> None:
    if not vms:
        print("no VMs")
    for vm in vms:
        zone = str(vm.get("zone", "")).rpartition("/")[2]
        print(f"{vm['name']:<44}{vm['status']!s:<14}{zone}")


if __name__ == "__main__":
    sys.exit(main())
