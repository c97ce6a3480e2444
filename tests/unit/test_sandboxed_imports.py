"""Workflows pass through Temporal's sandbox exactly what tests/workflow_sandbox.py names."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflow_sandbox import PASSED_THROUGH

WORKFLOWS = Path(__file__).parents[2] / "workflows"
FILES = sorted(WORKFLOWS.rglob("*.py"))


def passed_through(file: Path) -> Iterator[str]:
    """List the modules that a file imports within ``imports_passed_through``."""
    for block in ast.walk(ast.parse(file.read_text())):
        if isinstance(block, ast.With) and "imports_passed_through" in ast.unparse(block.items[0]):
            for line in block.body:
                assert isinstance(line, ast.ImportFrom)
                yield from (f"{line.module}.{name.name}" for name in line.names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(WORKFLOWS)))
def test_a_workflows_module_exempts_nothing_else_from_the_sandbox(file: Path) -> None:
    exempt = tuple(f"{name}." for name in PASSED_THROUGH)
    assert [name for name in passed_through(file) if not f"{name}.".startswith(exempt)] == []
