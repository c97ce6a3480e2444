"""systemctl, nvidia-smi, cloud-init and others of a light machine, as far as the bring-up of a node needs them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from sandbox.machines import MachineSpec
from sandbox.machines.light.guest import Invocation, Program
from sandbox.machines.light.kubeadm.command import VERSION
from sandbox.machines.light.kubelet.container import LAYERS

_GPUS: Mapping[str, tuple[str, int]] = {
    "nvidia-tesla-t4": ("Tesla T4", 15360),
    "nvidia-tesla-p4": ("Tesla P4", 7680),
    "nvidia-tesla-v100": ("Tesla V100-SXM2-16GB", 16384),
    "nvidia-tesla-p100": ("Tesla P100-PCIE-16GB", 16384),
    "nvidia-tesla-a100": ("NVIDIA A100-SXM4-40GB", 40960),
    "nvidia-a100-80gb": ("NVIDIA A100-SXM4-80GB", 81920),
    "nvidia-l4": ("NVIDIA L4", 23034),
    "nvidia-h100-80gb": ("NVIDIA H100 80GB HBM3", 81559),
}
_DRIVER = "570.195.03"
"""Marketing name and memory in MiB, by GCE's accelerator type."""


class Unit(Protocol):
    """A unit that systemctl can start and stop."""

    @property
    def state(self) -> str:
        """The ActiveState."""

    async def start(self) -> None:
        """Start it.

        Raises:
            RuntimeError: it fails.
        """

    async def stop(self) -> None:
        """Stop it."""


def systemctl(units: Mapping[str, Unit], states: Callable[[], Mapping[str, str]]) -> Program:
    """Make ``systemctl``: ``units`` can be started and stopped, and ``states`` are those of other units."""

    def state_of(name: str) -> str | None:
        name = name.removesuffix(".service")
        return units[name].state if name in units else states().get(name)

    async def run(call: Invocation) -> int:
        words = [word for word in call.argv if not word.startswith("-")]
        match words:
            case ["daemon-reload" | "enable" | "disable" | "mask" | "unmask" | "reset-failed", *_]:
                return 0
            case ["is-system-running"]:
                call.out("running")
                return 0
            case ["is-active", *names] if names:
                found = [state_of(name) for name in names]
                if not {"-q", "--quiet"} & set(call.argv):
                    call.out("\n".join(state or "inactive" for state in found))
                return 0 if "active" in found else (4 if None in found else 3)
            case ["status", name]:
                state = state_of(name)
                if state is None:
                    call.err(f"Unit {name} could not be found.")
                    return 4
                call.out(f"● {name}\n     Active: {state}")
                return 0 if state == "active" else 3
            case ["show", *words]:
                return _show(call, words, state_of)
            case ["start" | "restart" | "stop" as verb, *names] if names:
                return await _act(call, verb, [name.removesuffix(".service") for name in names])
        call.err(f"systemctl: the sandbox does not know {' '.join(call.argv)!r}")
        return 1

    async def _act(call: Invocation, verb: str, names: list[str]) -> int:
        for name in names:
            unit = units.get(name)
            if unit is None and name in states():
                continue
            if unit is None:
                call.err(f"Failed to {verb} {name}.service: Unit {name}.service not found.")
                return 5
            try:
                if verb in {"stop", "restart"}:
                    await unit.stop()
                if verb in {"start", "restart"}:
                    await unit.start()
            except RuntimeError as error:
                call.err(f"Job for {name}.service failed: {error}")
                return 1
        return 0

    return run


def _show(call: Invocation, words: list[str], state_of: Callable[[str], str | None]) -> int:
    """Run ``systemctl show -p ActiveState UNIT``, with or without ``--value``."""
    *properties, name = words
    wanted = [part for word in properties for part in word.split(",")]
    wanted += [part for word in call.argv if word.startswith("--property=") for part in word[11:].split(",")]
    values = {"ActiveState": state_of(name) or "inactive", "Result": "success"}
    for key in wanted or values:
        if key in values:
            call.out(values[key] if "--value" in call.argv else f"{key}={values[key]}")
    return 0


def nvidia_smi(spec: MachineSpec) -> Program:
    """Make ``nvidia-smi``, with ``-L`` and ``--query-gpu``."""
    model, memory = _GPUS.get(spec.gpu_type or "", (spec.gpu_type or "", 0))
    fields = [
        {
            "index": str(index),
            "name": model,
            "gpu_name": model,
            "uuid": f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, f'{spec.instance_id}/{index}')}",
            "driver_version": _DRIVER,
            "memory.total": f"{memory} MiB",
            "memory.used": "0 MiB",
            "utilization.gpu": "0 %",
        }
        for index in range(spec.gpu_count)
    ]

    async def run(call: Invocation) -> int:
        if not fields:
            call.err(
                "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the "
                "latest NVIDIA driver is installed and running."
            )
            return 9
        query = next((word.partition("=")[2] for word in call.argv if word.startswith("--query-gpu=")), None)
        if query is not None:
            names = [name.strip() for name in query.split(",")]
            if unknown := [name for name in names if name not in fields[0]]:
                call.out(f'Field "{unknown[0]}" is not a valid field to query.')
                return 2
            form = next((word for word in call.argv if word.startswith("--format=")), "--format=csv")
            if "noheader" not in form:
                call.out(", ".join(names))
            for gpu in fields:
                line = ", ".join(gpu[name] for name in names)
                call.out(line.replace(" MiB", "").replace(" %", "") if "nounits" in form else line)
        elif "-L" in call.argv or "--list-gpus" in call.argv:
            for gpu in fields:
                call.out(f"GPU {gpu['index']}: {gpu['name']} (UUID: {gpu['uuid']})")
        else:
            call.out(f"NVIDIA-SMI {_DRIVER}    Driver Version: {_DRIVER}    CUDA Version: 12.8")
            for gpu in fields:
                call.out(f"|   {gpu['index']}  {gpu['name']}   {gpu['memory.used']} / {gpu['memory.total']}")
        return 0

    return run


def crictl(root: Path) -> Program:
    """Make ``crictl inspect``, which knows one field: where CRI-O mounts a container's file system."""

    async def run(call: Invocation) -> int:
        container = call.argv[-1] if call.argv else ""
        path = root / LAYERS / container
        if "inspect" not in call.argv or "{{.info.runtimeSpec.root.path}}" not in call.argv or not path.is_dir():
            call.err(f"crictl: not found, or not known to the sandbox: {' '.join(call.argv)}")
            return 1
        call.out(str(path / "merged"))
        return 0

    return run


async def cloud_init(call: Invocation) -> int:
    """Run ``cloud-init status``: the images of the sandbox have nothing to initialise."""
    call.out("status: done")
    return 0


async def kubelet_version(call: Invocation) -> int:
    """Run ``kubelet --version``; only the unit runs the kubelet itself."""
    call.out(f"Kubernetes {VERSION}")
    return 0


async def containerd_version(call: Invocation) -> int:
    """Run ``containerd --version``."""
    call.out("containerd github.com/containerd/containerd/v2 v2.1.5 fcd43222d6b07379a4be9786bda52438f0dd16a1")
    return 0
