"""The command line of kubeadm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sandbox.machines.light.kubeadm.config import from_arguments
from sandbox.machines.light.kubeadm.host import Host, KubeadmError, Print
from sandbox.machines.light.kubeadm.join import join, reset

VERSION = "v1.36.3"

_TRACE_HINT = "To see the stack trace of this error execute with --v=5 or higher"


async def kubeadm(host: Host, argv: Sequence[str], cwd: Path, out: Print, err: Print) -> int:
    """Run ``kubeadm ARGV`` on ``host`` and return its exit code."""
    try:
        match list(argv):
            case ["join", *rest]:
                await join(host, from_arguments(rest, host.hostname, cwd, host.resolve, err), out, err)
            case ["reset", *rest] if {"-f", "--force"} & set(rest):
                await reset(host, _after("--cri-socket", rest), out)
            case ["reset", *_]:
                raise KubeadmError("aborted reset operation: nobody to confirm it (use --force)")
            case ["version", *rest]:
                out(
                    VERSION
                    if "short" in " ".join(rest)
                    else f'kubeadm version: &version.Info{{GitVersion:"{VERSION}"}}'
                )
            case other:
                raise KubeadmError(f'unknown command "{" ".join(other)}" for "kubeadm"')
    except KubeadmError as error:
        err(f"{error}\n{_TRACE_HINT}")
        return error.code
    return 0


def _after(flag: str, argv: Sequence[str]) -> str:
    """Return the value that follows a flag; empty if the flag is not there."""
    words = iter(argv)
    return next(words, "") if flag in words else ""
