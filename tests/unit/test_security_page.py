"""``docs/security.md`` claims nothing that no test checks."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
PATH = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def rows() -> Iterator[str]:
    """List the rows of every table whose last column is called "test"."""
    in_table = False
    for line in PAGE.splitlines():
        if line.startswith("|") and line.endswith("| test |"):
            in_table = True
        elif not line.startswith("|"):
            in_table = False
        elif in_table and not line.startswith("|---"):
            yield line


ROWS = list(rows())


def test_there_are_defences() -> None:
    assert len(ROWS) > 30


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_each_defence_names_tests_that_exist(row: str) -> None:
    named = PATH.findall(row.split("|")[-2])
    assert named, "no test holds this row"
    for file, function in named:
        text = (ROOT / file).read_text()
        assert re.search(rf"^(async )?def {function or 'test_'}", text, re.MULTILINE), f"{file} has no {function}"
