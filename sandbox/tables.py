"""What the command line prints: columns as wide as their contents, and what to type next."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox.settings import Settings

Json = Mapping[str, Any]


def pairs(values: Mapping[str, str]) -> str:
    """Format names and values in two columns."""
    return _columns([list(pair) for pair in values.items()])


def processes(found: Sequence[Json]) -> str:
    """Format child processes with their state and their logs."""
    rows = [
        [each["name"], f"pid {each['pid']}" if each["pid"] else f"ended with code {each['exitCode']}", each["log"]]
        for each in found
    ]
    return _columns([["PROCESS", "STATE", "LOG"], *rows])


def vms(found: Sequence[Json], nodes: Sequence[Json] | None) -> str:
    """Format VMs with the Nodes that they became; ``nodes`` is None if the cluster does not answer."""
    if not found:
        return "no VMs"
    rows = [[*_vm(each), _node(each, nodes)] for each in found]
    return _columns([["VM", "ZONE", "MACHINE TYPE", "GPU", "ADDRESS", "STATE", "NODE"], *rows])


def next_steps(settings: Settings) -> str:
    """Describe what to type once a sandbox is up."""
    activate = Path(sys.prefix) / "bin" / "activate"
    environment = f"set -a; . {_short(settings.env_file)}; set +a"
    steps = [(f". {_short(activate)}", "kubectl, and a python that has what it needs")] if activate.exists() else []
    steps += [(environment, "addresses and credentials")]
    if settings.product:
        steps += [
            ("python -m sandbox samples | kubectl apply -f -", "two trainings on two spot VMs"),
            ("kubectl get spotinstancejobs,pods,nodes", "how they fare"),
            ("python -m sandbox vms", "the VMs' names"),
            ("python -m sandbox preempt VM", "lose one"),
        ]
    steps += [("python -m sandbox --help", "everything else")]
    lines = _columns([[command, f"# {why}" if why else ""] for command, why in steps])
    return f"To use it, in another shell:\n{textwrap.indent(lines, '  ')}\nCtrl-C ends it."


def _vm(instance: Json) -> list[str]:
    gpus = [f"{each['acceleratorCount']} {_leaf(each['acceleratorType'])}" for each in instance["guestAccelerators"]]
    zone, machine_type = _leaf(instance["zone"]), _leaf(instance["machineType"])
    return [instance["name"], zone, machine_type, " ".join(gpus) or "-", _address(instance), instance["status"]]


def _node(instance: Json, nodes: Sequence[Json] | None) -> str:
    if nodes is None:
        return "unknown"
    for node in nodes:
        if _address(instance) in {entry["address"] for entry in node["status"].get("addresses", ())}:
            conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
            return f"{node['metadata']['name']} {'Ready' if conditions.get('Ready') == 'True' else 'NotReady'}"
    return "-"


def _address(instance: Json) -> str:
    return str(instance["networkInterfaces"][0]["networkIP"])


def _leaf(url: str) -> str:
    return url.rpartition("/")[2]


def _short(path: Path) -> str:
    """Make a path relative if it is below the current directory."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
