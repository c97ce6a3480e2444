"""Files that are made of constants and types: they are written, or compared with what is there."""

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def write_or_compare(module: str, files: Mapping[Path, str], words: Sequence[str] | None = None) -> int:
    """Carry out ``python -m MODULE``: write the files; with ``--check`` print how they would change.

    Args:
        module: the program.
        files: what belongs into each file.
        words: the command's arguments; None for those of the process.

    Returns:
        The exit code: 1 if a file that was compared would change.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description="Write generated files.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a file would change")
    check = parser.parse_args(words).check
    found = {path: path.read_text() if path.exists() else "" for path in files}
    changed = [path for path, wanted in files.items() if found[path] != wanted]
    for path in changed:
        if check:
            was, wanted = found[path].splitlines(True), files[path].splitlines(True)
            sys.stdout.writelines(difflib.unified_diff(was, wanted, str(path), "generated"))
            print(f"{path.name} is not what the sources say: run python -m {module}", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path])
    return 1 if check and changed else 0
