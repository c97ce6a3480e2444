"""What can be played on a running sandbox by name, from outside: the cloud's faults and the operators' traps.

Values may be strings, as on a command line. They are converted to the types of the parameters.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError, validate_call

from sandbox.checkpoint_operator import CheckpointOperator
from sandbox.checkpoint_operator.agent_pods import AgentPods
from sandbox.checkpoint_operator.phases import MIDDLE_PHASES
from sandbox.checkpoint_operator.traps import ON_BACKUPS, ON_OPERATOR, TRAPS
from sandbox.errors import SandboxError
from sandbox.gce.faults import Faults
from sandbox.gpu_operator import GpuOperator
from sandbox.settings import MachineKind

IN_THE_MACHINE = ("hang_ssh", "expire_tokens", "skew_clocks")
"""Faults that are played inside a machine, which only light machines can do."""

FAULTS = (
    "exhaust",
    "restore_capacity",
    "set_quota",
    "refuse_deletes",
    "lose_insert_answers",
    "lag_lists",
    "withdraw_permissions",
    "grant_permissions",
    "require_os_login",
    "expire_credentials",
    "unavailable",
    "slow_boots",
    "mix_up_host_keys",
    *IN_THE_MACHINE,
    "set_price",
)
"""The methods of ``Faults`` that may be called from outside."""

VERDICTS = ("fail", "heal")
"""The methods of ``GpuOperator`` that may be called from outside."""


def play_fault(
    faults: Faults, name: str, args: Sequence[Any], options: Mapping[str, Any], machines: MachineKind = "light"
) -> None:
    """Call a method of ``faults``.

    Raises:
        SandboxError: the fault is unknown, such machines cannot play it, or it does not take these parameters.
    """
    if name not in FAULTS:
        raise SandboxError(f"no fault named {name}; there are: {', '.join(FAULTS)}")
    if machines == "real" and name in IN_THE_MACHINE:
        raise SandboxError(f"fault {name} is played inside a machine, which only light machines can do")
    with _refusals(f"fault {name}"):
        validate_call(getattr(faults, name))(*args, **options)


async def play_trap(operator: CheckpointOperator | AgentPods, name: str, options: Mapping[str, Any]) -> None:
    """Play a trap.

    Raises:
        SandboxError: the trap is unknown, or does not take these parameters.
        ValueError: the trap does not take these values.
    """
    if name not in TRAPS:
        raise SandboxError(f"no trap named {name}; there are: {', '.join(TRAPS)}")
    with _refusals(f"trap {name}"):
        await validate_call(operator.play)(name, **options)


async def play_validator(operator: GpuOperator, verdict: str, options: Mapping[str, Any]) -> None:
    """Make the validator of the GPU operator ``fail`` or ``heal``.

    Raises:
        SandboxError: the verdict is unknown, or does not take these parameters.
    """
    if verdict not in VERDICTS:
        raise SandboxError(f"a validator can {' or '.join(VERDICTS)}, not {verdict}")
    with _refusals(f"validator {verdict}"):
        await validate_call(getattr(operator, verdict))(**options)


def faults_help() -> str:
    """Describe each fault in a line or two."""
    return _methods_help(Faults, FAULTS)


def traps_help() -> str:
    """Describe each trap in a line, and the parameters of all."""
    lines: list[str] = []
    for head, traps in (("With the next CheckpointBackups it", ON_BACKUPS), ("As a whole it", ON_OPERATOR)):
        lines += [f"{head}:", *(f"  {name:<12}{about}" for name, about in traps.items())]
    lines += ["", f"{' '.join(_parameters(CheckpointOperator.play))}; phases: {', '.join(MIDDLE_PHASES)}"]
    return "\n".join(lines)


def validator_help() -> str:
    """Describe each verdict in a line or two."""
    return _methods_help(GpuOperator, VERDICTS)


def _methods_help(owner: type, names: Sequence[str]) -> str:
    lines = ["What can be played:"]
    for name in names:
        method = getattr(owner, name)
        lines += [f"  {' '.join([name, *_parameters(method)])}", f"      {_first_sentence(method)}"]
    return "\n".join(lines)


@contextlib.contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Say in one line which parameters were wrong."""
    try:
        yield
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise SandboxError(f"{what}: {'; '.join(wrong)}") from None


def _parameters(method: Callable[..., object]) -> Iterator[str]:
    """Yield the parameters as they are written on a command line, optional ones in brackets."""
    for parameter in inspect.signature(method).parameters.values():
        if parameter.name in {"self", "trap"}:
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            yield f"[{parameter.name.upper()} ...]"
        elif parameter.default is parameter.empty:
            yield f"{parameter.name}={parameter.name.upper()}"
        else:
            shown = parameter.name.upper() if parameter.default is None else parameter.default
            yield f"[{parameter.name}={shown}]"


def _first_sentence(method: Callable[..., None]) -> str:
    """Return the first line of a method's documentation, with backticks as a terminal needs them."""
    return (inspect.getdoc(method) or "").partition("\n")[0].replace("``", "`")
