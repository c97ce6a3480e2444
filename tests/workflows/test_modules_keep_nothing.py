"""The worker runs all workflows on the same modules, so no module may keep what one workflow has told it.

The sandbox of the SDK would give each workflow its own copies of them. That hides such a mistake until two workflows
meet in one worker, and a replay elsewhere finds a module that remembers nothing.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.workflows.world import World
from workflows.policy import notice

ROOT = Path(__file__).parents[2]
ROOMS = ("workflows", "api", "activities/signatures")
PURE = {
    "__future__", "asyncio", "collections", "contextlib", "contextvars", "copy", "dataclasses", "datetime", "difflib",
    "enum", "functools", "hashlib", "inspect", "itertools", "json", "math", "operator", "re", "string", "types",
    "typing", "urllib.parse", "uuid",
}  # fmt: skip
"""Modules of the standard library that workflow code may import. Ruff refuses what is impure in them."""
TOOLS = {"api/crd.py", "api/generated.py", "api/reference.py", "api/vocabulary.py"}
"""Programs that write manifests and pages; no workflow imports them."""

FILES = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_workflow_code_imports_nothing_that_reaches_the_world(file: Path) -> None:
    if str(file.relative_to(ROOT)) in TOOLS:
        return
    standard = {name for name in imported(file) if name.split(".")[0] in sys.stdlib_module_names}
    assert {name for name in standard if name not in PURE and name.split(".")[0] not in PURE} == set()


def modules() -> list[ModuleType]:
    prefixes = tuple(f"{room.replace('/', '.')}." for room in ROOMS)
    return [module for name, module in sorted(sys.modules.items()) if f"{name}.".startswith(prefixes)]


def kept() -> dict[str, str]:
    """What the modules and their classes hold in containers that can change."""
    found: dict[str, str] = {}
    for module in modules():
        for name, value in vars(module).items():
            _note(found, f"{module.__name__}.{name}", value)
            if isinstance(value, type) and value.__module__ == module.__name__:
                for attribute, held in vars(value).items():
                    _note(found, f"{module.__name__}.{name}.{attribute}", held)
    return found


def _note(found: dict[str, str], path: str, value: Any) -> None:
    own = not path.rpartition(".")[2].startswith(("__", "model_", "_abc"))
    if own and isinstance(value, dict | list | set | bytearray):
        found[path] = repr(value)


async def test_no_module_remembers_the_lives_of_its_workflows(world: World) -> None:
    before = kept()
    assert before  # constants, at least
    await world.submit(replicas=2, checkpoint={"checkpointInterval": "3m"})
    await world.running(2)
    world.cloud.power_off(world.node_of(0))
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 2, within=1800)
    await world.delete()
    await world.ended()
    assert kept() == before


def test_a_module_that_remembers_something_is_seen() -> None:
    before = kept()
    notice.SEEN = {"one workflow"}  # type: ignore[attr-defined]
    try:
        assert {path for path, value in kept().items() if before.get(path) != value} == {"workflows.policy.notice.SEEN"}
    finally:
        del notice.SEEN
