"""Markdown for the Web UI, of words that others may have written."""

import re
from collections.abc import Iterable
from datetime import datetime

_MARKUP = re.compile(r"([\\`*<\[\]|~$]|(?<!\w)_|_(?!\w))")
"""What makes markup of a text: code, emphasis, HTML, links, cells, formulas. An underscore inside a word makes none."""


def plain(text: str) -> str:
    """Quote a text, so that it shows as it is, in one line.

    >>> plain("a | b\\nof <b>spot_vm</b>")
    'a \\\\| b of \\\\<b>spot_vm\\\\</b>'
    """
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Make a table of cells that are Markdown already."""
    head = list(head)
    return [_row(head), "|---" * len(head) + "|", *map(_row, rows)]


def moment(at: datetime) -> str:
    """Write a time, with its date: the card may be read days later.

    >>> moment(datetime(2026, 1, 31, 12, 5, 9))
    '31 Jan 12:05:09 UTC'
    """
    return f"{at:%d %b %H:%M:%S} UTC"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
