"""``python -m api.vocabulary``: write ``docs/events.md`` from what people read; ``--check`` fails on drift."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from api import reasons

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "events.md"

HEAD = """\
# Conditions and Events

After this page you can read every word that Outlast writes into a job's status and Events. It is generated from
`api/conditions.py`, `api/reasons.py`, `api/errors.py`, `api/events.py` and `api/phases.py` by
`python -m api.vocabulary`. [Conditions](conditions.md) says what helps.
"""

TABLES = {
    "conditions": "Types of conditions: `kubectl describe sij NAME`, `kubectl wait --for=condition=TYPE`.",
    "reasons": "Reasons of conditions: `reason` beside each `type`, for programs. The message is for people.",
    "errors": "Errors of the API server, cloud, registry and bucket, each of which may be the reason of a condition.",
    "events": "Reasons of Events: `kubectl events --for sij/NAME`. Those of `Stable=False` are reasons of Events, too.",
    "phases": "Phases of a replica: `status.jobStatuses[].phase`.",
}

OF_OTHERS = """\
Words of others are those of the kubelet, the scheduler, a controller or a monitor of the
node's health, such as `ImagePullBackOff` or `KernelDeadlock`.
"""


def words(module: str) -> dict[str, str]:
    """Read the constants of a module of this package: each word with the sentence below it."""
    found, name = {}, None
    for node in ast.parse((HERE / f"{module}.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            name = node.value.value
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name is not None:
            found[name], name = " ".join(str(node.value.value).split()), None
    return found


def page() -> str:
    """Write the whole page."""
    parts = [HEAD]
    for module, about in TABLES.items():
        table = _table((module[:-1], "meaning"), words(module).items())
        of_conditions = (
            f"{_table(('condition', 'its reasons'), _reasons())}\n{OF_OTHERS}\n" if module == "reasons" else ""
        )
        parts.append(f"## {module.capitalize()}\n\n{about}\n\n{of_conditions}{table}")
    return "\n".join(parts)


def _reasons() -> Iterator[tuple[str, str]]:
    """List each condition with the reasons that it may have."""
    for condition, own in reasons.OF.items():
        said = [f"`{reason}`" for reason in own]
        if condition in reasons.WITH_ERRORS:
            said.append("an [error](#errors)")
        if condition in reasons.IN_WORDS_OF_OTHERS:
            said.append("a word of others")
        yield condition, ", ".join(said)


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| `{word}` | {meaning} |" for word, meaning in rows]
    return "\n".join([f"| {head[0]} | {head[1]} |", "|---|---|", *lines, ""])


def main(arguments: list[str]) -> int:
    """Write the page, or compare it; return the exit code."""
    if arguments != ["--check"]:
        PAGE.write_text(page())
        return 0
    if PAGE.exists() and PAGE.read_text() == page():
        return 0
    print(f"{PAGE.name} is not what the constants say: run python -m api.vocabulary", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
