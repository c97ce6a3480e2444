"""Checkpoints as frameworks lay them out, by the file that each writes last. Pure.

Only names and sizes are looked at. ``.metadata`` of torch is a pickle, and to load one runs what it contains.

A checkpoint is a directory right below that of an incarnation. Frameworks have directories of their own in it, some
with numbers in their names, so what is deeper is never taken for a checkpoint. How far a training was is the last
number of the directory's name.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from activities.storage.judged import Judged, Sizes, file_name
from api.storage import INCARNATION

TORCH_LAST = ".metadata"
"""Rank 0 renames it in after all ranks have written: torch/distributed/checkpoint/filesystem.py, ``finish``."""
TORCH_PART = ".distcp"
ORBAX_LAST = "commit_success.txt"
"""Written once all is there, if a directory cannot be renamed: orbax/checkpoint/_src/path/atomicity.py."""
ORBAX_TEMPORARY = ".orbax-checkpoint-tmp"

Files = Mapping[str, int]
"""The files of one directory, by their paths in it."""

_LAST_NUMBER = re.compile(r"(?<![0-9])([0-9]{1,15})[^0-9]*$")


def torch_dcp(prefix: str, sizes: Sizes) -> list[Judged]:
    """Judge checkpoints of torch.distributed.checkpoint."""
    return list(_judge(_directories(prefix, sizes, TORCH_LAST), _torch_problem))


def orbax(prefix: str, sizes: Sizes) -> list[Judged]:
    """Judge checkpoints of Orbax."""
    return list(_judge(_directories(prefix, sizes, ORBAX_LAST), _orbax_problem))


def _torch_problem(name: str, files: Files) -> str | None:
    """Say what a directory lacks; None if it was never meant to be a checkpoint."""
    if TORCH_LAST not in files:
        return f"it has no {TORCH_LAST}" if any(file.endswith(TORCH_PART) for file in files) else None
    if files[TORCH_LAST] == 0:
        return f"its {TORCH_LAST} is empty"
    return "" if any(file.endswith(TORCH_PART) for file in files) else f"it has no {TORCH_PART} file"


def _orbax_problem(name: str, files: Files) -> str | None:
    """Say what a directory lacks; None if it was never meant to be a checkpoint."""
    if ORBAX_TEMPORARY in name:
        return "it is one of Orbax's temporary directories"
    if ORBAX_LAST not in files:
        return f"it has no {ORBAX_LAST}" if _LAST_NUMBER.search(name) else None
    return "" if len(files) > 1 else f"it has nothing but {ORBAX_LAST}"


def _judge(found: dict[str, dict[str, int]], problem_of: Callable[[str, Files], str | None]) -> Iterator[Judged]:
    for path, files in sorted(found.items()):
        name = file_name(path)
        problem, number = problem_of(name, files), _LAST_NUMBER.search(name)
        if problem is None:
            continue
        if not problem and number is None:
            problem = "its name has no number that says how far the training was"
        yield Judged(path, float(number[1]) if number else 0.0, problem)


def _directories(prefix: str, sizes: Sizes, last: str) -> dict[str, dict[str, int]]:
    """Group files by what may be a checkpoint: ``prefix`` itself, a directory in it, or in that of an incarnation."""
    if f"{prefix}/{last}" in sizes:
        return {prefix: {key.removeprefix(f"{prefix}/"): size for key, size in sizes.items()}}
    found: dict[str, dict[str, int]] = {}
    for key, size in sizes.items():
        parts = key.removeprefix(f"{prefix}/").split("/")
        depth = 2 if INCARNATION.fullmatch(parts[0]) else 1
        if len(parts) > depth:
            path = "/".join(filter(None, [prefix, *parts[:depth]]))
            found.setdefault(path, {})["/".join(parts[depth:])] = size
    return found
