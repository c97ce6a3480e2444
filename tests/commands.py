"""The commands that pages show: lines that begin with ``$`` in their console blocks, with what continues them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])

_BLOCK = re.compile(r"^ *```console\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^ *(?:☁ )?(?:\d+ )?\$ (.*(?:\n {4,}\S.*)*)$", re.MULTILINE)
_COMMENT = re.compile(r"\s+# .*$")
_TITLED = re.compile(r'^```yaml title="(.+?)"\n(.*?)^```', re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """List the commands of a page, without the comments behind them."""
    return commands_in(page.read_text())


def commands_in(text: str) -> list[str]:
    """List the commands of a page or a part of it."""
    return [_COMMENT.sub("", command) for block in _BLOCK.findall(text) for command in _COMMAND.findall(block)]


def files(page: Path) -> dict[str, str]:
    """Return the files that a page asks its reader to save, by name."""
    return dict(_TITLED.findall(page.read_text()))
