"""What people read is written down once, in ``api/``: code uses the constants, and pages are checked against them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from api import conditions, errors, reasons, vocabulary
from api.messages import Stage as VmStage
from api.phases import Phase

ROOT = Path(__file__).parents[2]
CODE = sorted(path for room in ("workflows", "activities", "crd_bridge") for path in (ROOT / room).rglob("*.py"))
CALLS = {"event": "events", "condition": "conditions"}
"""Methods by which a workflow reports something, and the module that has their first argument."""


def literals(file: Path) -> Iterator[str]:
    """Find words that are written out where a constant belongs."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or len(node.args) < 2:
            continue
        first = node.args[0]
        if node.func.attr in CALLS and isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield f"{file.relative_to(ROOT)}:{node.lineno}: {first.value!r} belongs into api/{CALLS[node.func.attr]}.py"


def test_code_names_conditions_and_events_by_their_constants() -> None:
    assert [found for file in CODE for found in literals(file)] == []


def test_no_condition_has_a_second_constant() -> None:
    types = set(vocabulary.words("conditions"))
    again = [
        f"{file.relative_to(ROOT)}:{node.lineno}: {node.value.value}"
        for file in CODE
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.value.value in types
    ]
    assert again == []


def test_code_names_reasons_by_their_constants() -> None:
    """Words that mean something else, too, such as the phase Running, are checked as arguments of conditions only."""
    told = {reason for reason in vocabulary.words("reasons") if re.fullmatch(r"([A-Z][a-z]+){2,}", reason)}
    told -= set(get_args(Phase)) | set(get_args(VmStage)) | set(vocabulary.words("events"))
    assert [found for file in CODE for found in written_out(file, told)] == []


def written_out(file: Path, told: set[str]) -> Iterator[str]:
    """Find reasons of conditions that are written out where a constant belongs."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and node.value in told:
            yield f"{file.relative_to(ROOT)}:{node.lineno}: {node.value!r} belongs into api/reasons.py"
        match node:
            case ast.Call(func=ast.Name("not_accepted"), args=[ast.Constant(word), *_]):
                yield f"{file.relative_to(ROOT)}:{node.lineno}: {word!r} belongs into api/reasons.py"
    for line, _, reason in conditions_of(file):
        for each in ast.walk(reason):
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                yield f"{file.relative_to(ROOT)}:{line}: {each.value!r} belongs into api/reasons.py"


def conditions_of(file: Path) -> Iterator[tuple[int, ast.expr, ast.expr]]:
    """Find where a file sets conditions: the line, the type and the reason."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr == "condition" and len(node.args) > 2:
            yield node.lineno, node.args[0], node.args[2]
        given = {each.arg: each.value for each in node.keywords}
        if isinstance(node.func, ast.Name) and node.func.id == "Condition" and {"type", "reason"} <= set(given):
            yield node.lineno, given["type"], given["reason"]


def test_each_condition_has_the_reasons_that_are_listed_for_it() -> None:
    for file in CODE:
        for line, condition, reason in conditions_of(file):
            if not isinstance(condition, ast.Attribute):
                continue
            named = [each.attr for each in ast.walk(reason) if isinstance(each, ast.Attribute) and each.attr.isupper()]
            for each in named:
                word = getattr(reasons, each, None) or getattr(errors, each)
                assert reasons.may_have(getattr(conditions, condition.attr), word), f"{file}:{line}: {word}"


def test_each_condition_has_reasons_and_each_reason_a_condition() -> None:
    assert list(reasons.OF) == list(vocabulary.words("conditions"))
    assert {reason for own in reasons.OF.values() for reason in own} == set(vocabulary.words("reasons"))


@pytest.mark.parametrize("module", ["conditions", "reasons", "errors", "events", "phases"])
def test_each_word_has_a_sentence(module: str) -> None:
    tree = ast.parse((ROOT / "api" / f"{module}.py").read_text())
    values = [
        node.value.value for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    ]
    assert list(vocabulary.words(module)) == values
    assert len(values) == len(set(values))
    assert all(meaning.endswith(".") for meaning in vocabulary.words(module).values())


def test_the_pages_are_what_the_constants_say() -> None:
    assert vocabulary.main(["--check"]) == 0


def test_each_phase_is_a_word() -> None:
    assert set(vocabulary.words("phases")) == set(get_args(Phase))


def test_the_pages_on_conditions_know_each_of_them() -> None:
    said = re.findall(r"`(\w+)(?:=\w+)?`", (ROOT / "docs" / "conditions.md").read_text())
    assert sorted(set(vocabulary.words("conditions")) - set(said)) == []
    table = (ROOT / "README.md").read_text().partition("| condition | meaning |")[2].partition("\n\n")[0]
    told = set(re.findall(r"`(\w+)=\w+`", table))
    assert told - set(vocabulary.words("conditions")) == set()
