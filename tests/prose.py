"""``python -m tests.prose``: refuse habits of our own prose that no native speaker has.

- *where* for a condition, in Markdown, docstrings and comments (manifests' as well): it is for places only.
- A docstring that begins with a word such as *Of* or *Until* instead of a verb.
- Markdown prose beyond 120 columns. Tables, code blocks and the targets of links may be longer.

It is a heuristic with few false positives: what it is not sure of passes. ``CONTRIBUTING.md`` says how we write.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
CLEAN = (
    ".ci",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Makefile",
    "README.md",
    "activities",
    "api",
    "clients",
    "crd_bridge",
    "deploy",
    "docs",
    "programs",
    "release",
    "sandbox",
    "tests",
    "worker",
    "workflows",
)
"""Files and folders that are checked. Add what has been cleaned."""
SUFFIXES = frozenset({".hcl", ".md", ".py", ".sh", ".yaml"})
NAMES = frozenset({"Dockerfile", "Kustomization", "Makefile", "run"})
"""Which files have prose: those with these suffixes, and those with these names."""
COLUMNS = 120

_FIRST_WORDS = re.compile(r"(Of|Whose|By|Until|None|Where)\b")
_PLACES = re.compile(
    r"\b((page|section|table|folder|directory|file|place|point|zone|region|project|cluster|namespace|node|machine|vm"
    r"|host|phase|line|bucket)s?|directories|there|those|somewhere|everywhere|anywhere|exactly|from|to|stays?) $",
    re.IGNORECASE,
)
"""What may stand before a *where* that does mean a place."""
_CONDITIONS = (
    re.compile(
        r"\b(None|False|True|empty|infinite|off|unset|nothing|\d+|also|even|too,|at all|rais(e|es) \w+|\w+Error) "
        r"(?P<where>where)\b",
        re.IGNORECASE,
    ),
    re.compile(
        r"\b(?P<where>where) (there (is|are|was)|nothing|nobody|none|neither|no|not|possible|needed|necessary|known"
        r"|unset|given|all rest|two are|both are|that (is|was|does|has|fits|fails|helps)"
        r"|it (is (a|an|none|not|another|None)|has|does|can|cannot|fits|would|needs)|they (are not|do not|cannot))\b",
        re.IGNORECASE,
    ),
    re.compile(
        r"\b(?P<where>where)( [\w'`-]+){1,4}? ((does|do|did|is|are|was|were) not|(has|have|had) (no|none)|cannot|lacks"
        r"|fails|refuses|allows)\b",
        re.IGNORECASE,
    ),
    re.compile(r"[.;:!] (?P<where>Where) [^.;:?!]*,"),
    re.compile(r"\b[A-Z]\w+: (?P<where>where) "),  # the description of an error in a docstring's section on them
)
_LINK = re.compile(r"\]\([^)\s]*\)")
_CODE = re.compile(r"(`+).+?\1")
_ITEM = re.compile(r"\s*([-*]|\d+\.) ")


@dataclass(frozen=True)
class Passage:
    """Connected prose: a paragraph, a table's row, a docstring, or comments one below the other."""

    line: int
    text: str
    is_docstring: bool = False


def main() -> int:
    """Print what is refused; return 1 if anything is."""
    found = [problem for path in files(ROOT, CLEAN) for problem in problems(path.relative_to(ROOT), path.read_text())]
    for problem in found:
        print(f"prose: {problem}", file=sys.stderr)
    return 1 if found else 0


def files(root: Path, clean: tuple[str, ...]) -> Iterator[Path]:
    """List the files with prose among what is clean, which may be files or folders."""
    for path in (root / name for name in clean):
        each = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in each if file.suffix in SUFFIXES or file.name in NAMES)


def problems(name: Path, text: str) -> Iterator[str]:
    """Find what is refused in one file."""
    passages = list({".py": in_python, ".md": in_markdown}.get(name.suffix, in_comments)(text))
    for passage in passages:
        begun = passage.text if passage.is_docstring else f". {passage.text}"
        for words in conditional_wheres(begun):
            yield f"{name}:{passage.line}: {words!r}… is a condition: write if or when"
        if passage.is_docstring and (first := _FIRST_WORDS.match(passage.text)):
            yield f"{name}:{passage.line}: a docstring begins with {first[0]!r}: begin with a verb and its object"
    if name.suffix == ".md":
        for number in too_long(text):
            yield f"{name}:{number}: longer than {COLUMNS} columns: wrap it"


def conditional_wheres(text: str) -> Iterator[str]:
    """Find each *where* that stands for *if* or *when*, with some words after it."""
    words = _CODE.sub(lambda code: "x" * len(code[0]), " ".join(text.split()))
    starts = {match.start("where") for each in _CONDITIONS for match in each.finditer(words)}
    for start in sorted(starts):
        if not _PLACES.search(words[:start]):
            yield words[start : start + 40]


def in_markdown(text: str) -> Iterator[Passage]:
    """Cut a page into paragraphs, list items and table rows, without code blocks and headings."""
    start, lines = 0, list[str]()
    for number, line in prose_lines(text):
        joins = line.strip() and not line.startswith(("#", "|")) and not _ITEM.match(line)
        if lines and not joins:
            yield Passage(start, "\n".join(lines))
            lines = []
        if line.strip() and not line.startswith("#"):
            start = start if lines else number
            lines.append(line.strip("| "))
    if lines:
        yield Passage(start, "\n".join(lines))


def in_python(text: str) -> Iterator[Passage]:
    """List the docstrings, those below constants among them, and the comments."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield Passage(node.lineno, node.value.value.strip(), is_docstring=True)
    start, last, lines = 0, 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        number = token.start[0]
        if lines and number != last + 1:
            yield Passage(start, "\n".join(lines))
            lines = []
        start, last = start if lines else number, number
        lines.append(token.string.lstrip("#: "))
    if lines:
        yield Passage(start, "\n".join(lines))


def in_comments(text: str) -> Iterator[Passage]:
    """List the comments of a manifest or a script that stand on lines of their own."""
    start, lines = 0, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.lstrip().startswith("#"):
            start = start if lines else number
            lines.append(line.strip().lstrip("#: "))
        elif lines:
            yield Passage(start, "\n".join(lines))
            lines = []


def too_long(text: str) -> Iterator[int]:
    """Give the numbers of the lines that are too long, the targets of their links aside."""
    for number, line in prose_lines(text):
        if not line.lstrip().startswith("|") and len(_LINK.sub("]()", line)) > COLUMNS:
            yield number


def prose_lines(text: str) -> Iterator[tuple[int, str]]:
    """Number the lines of a page and leave out its code blocks, each as one empty line."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            yield number, ""
        elif not fenced:
            yield number, line


if __name__ == "__main__":
    sys.exit(main())
