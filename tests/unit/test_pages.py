"""The files that a page names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ROOMS = "api|workflows|activities|clients|crd_bridge|programs|worker|sandbox|release|tests"
NAMED = re.compile(rf"`((?:{ROOMS})/[\w./-]*)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_file_that_a_page_names_exists(page: Path) -> None:
    named = NAMED.findall(page.read_text())
    assert [file for file in named if not (ROOT / file).exists()] == []
