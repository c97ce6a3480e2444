"""The commands that pages show: lines that begin with ``$`` in their console blocks, with what continues them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])

_BLOCK = re.compile(r"^ *```console\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^ *(?:☁ )?(?:\d+ )?\$ (.*(?:\n {4,}\S.*)*)$", re.MULTILINE)
_IN_TABLE = re.compile(r"`((?:kubectl|make|outlast|temporal|\.venv/bin/python -m) [^`]+)`")
_COMMENT = re.compile(r"\s+# .*$")
_TITLED = re.compile(r'^```yaml title="(.+?)"\n(.*?)^```', re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """List the commands of a page, without the comments behind them."""
    return commands_in(page.read_text())


def commands_in_tables(page: Path) -> list[str]:
    """List the commands in the tables of what to type, without those that leave something to fill in."""
    found, inside = [], False
    for line in page.read_text().splitlines():
        inside = line.startswith("|") and (inside or line == "| to | type |")
        found += _IN_TABLE.findall(line) if inside else []
    return [code.replace("\\|", "|") for code in found if not set("<…") & set(code)]


def commands_in(text: str) -> list[str]:
    """List the commands of a page or a part of it."""
    return [_COMMENT.sub("", command) for block in _BLOCK.findall(text) for command in _COMMAND.findall(block)]


def files(page: Path) -> dict[str, str]:
    """Return the files that a page asks its reader to save, by name."""
    return dict(_TITLED.findall(page.read_text()))
